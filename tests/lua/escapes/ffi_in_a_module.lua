-- The same number in files that are required, run, or loaded.
function main(env, con)
    local found = {}
    if jit then
        local file = assert(io.open("long.lua", "w"))
        file:write("return { number = 1LL }")
        file:close()
        for name, use in pairs { loadfile = loadfile, dofile = dofile, require = function() return require "long" end } do
            use("long.lua")
            if package.loaded.ffi or pcall(require, "ffi") then found[#found + 1] = name end
        end
        local number = require("long").number
        for name, use in pairs {
            puts = function() con:puts(number) end, status = function() con:status(number) end,
            sleep = function() con:sleep(number) end, gets = function() con:gets(number) end,
            header = function() con:header("X", number) end,
        } do
            if pcall(use) then found[#found + 1] = "con:" .. name end
        end
    end
    con:puts(#found == 0 and "held" or table.concat(found, "\n"))
end
