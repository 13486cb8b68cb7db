-- The standard streams closed: the log may be one of them.
function main(env, con)
    local found = {}
    local function try(name, ...)
        local ok, value = pcall(...)
        if ok and value then found[#found + 1] = name end
    end
    for _, name in ipairs { "stdin", "stdout", "stderr" } do
        try(name, io[name].close, io[name])
        try("io.close " .. name, io.close, io[name])
    end
    try("io.close", io.close)
    con:puts(#found == 0 and "held" or table.concat(found, "\n"))
end
