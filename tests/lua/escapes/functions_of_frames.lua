-- The functions of the frames below main, and of other threads, by debug.getinfo.
function main(env, con)
    local found = {}
    local function try(...)
        local ok, info = pcall(debug.getinfo, ...)
        if ok and type(info) == "table" then
            for name, value in pairs(info) do
                local kind = type(value)
                if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then found[#found + 1] = name .. " " .. kind end
            end
        end
    end
    local thread = coroutine.create(function() coroutine.yield() end)
    coroutine.resume(thread)
    for level = 0, 30 do
        for _, what in ipairs { "f", "nSlufL", "L", ">f", "fff", ">fnSluL" } do
            try(level, what)
            try(thread, level, what)
        end
        try(level)
        try(thread, level)
        try(tostring(level), "f")
    end
    for _, f in ipairs { print, main, con.puts, debug.getinfo, string.format } do
        try(f, "f")
        try(f)
    end
    con:puts(#found == 0 and "held" or table.concat(found, "\n"))
end
