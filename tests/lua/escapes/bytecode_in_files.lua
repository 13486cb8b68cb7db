-- Bytecode in a file, also behind a first line for the shell or a byte order mark.
function main(env, con)
    local found = {}
    local function try(name, ...)
        local ok, value = pcall(...)
        if ok and value then found[#found + 1] = name end
    end
    for number, beginning in ipairs { "", "#!/usr/bin/lua\n", "\239\187\191", "\239\187\191#\n", "#" } do
        local name = "bytecode" .. number
        local file = assert(io.open(name .. ".lua", "wb"))
        file:write(beginning, string.dump(function() ran = true return "ran" end))
        file:close()
        for _, mode in ipairs { "b", "bt" } do
            local f = loadfile(name .. ".lua", mode)
            try("loadfile " .. mode, function() return f() end)
        end
        try("loadfile", function() return loadfile(name .. ".lua")() end)
        try("loadfile with environment", function() return loadfile(name .. ".lua", nil, {})() end)
        if beginning ~= "#" then try("dofile", dofile, name .. ".lua") end
        if beginning ~= "#" then try("require", require, name) end
    end
    con:puts(#found == 0 and not ran and "held" or "ran " .. table.concat(found, "\n"))
end
