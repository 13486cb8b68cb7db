-- Devices, which have no end, read as Lua source: by the server, in its own memory.
function main(env, con)
    local found = {}
    for name, use in pairs { loadfile = loadfile, dofile = dofile } do
        for _, path in ipairs { "/dev/zero", "/dev/full", "/dev/null", "." } do
            local ok, chunk = pcall(use, path)
            if ok and chunk then found[#found + 1] = name .. " " .. path end
        end
    end
    package.path = "/dev/?"
    if pcall(require, "zero") then found[#found + 1] = "require" end
    con:puts(#found == 0 and "held" or table.concat(found, "\n"))
end
