-- Environments of the server's own functions, on the Luas where functions have them.
local _G, getfenv, getmetatable, ipairs, pairs, pcall, setfenv = _G, getfenv, getmetatable, ipairs, pairs, pcall, setfenv
local concat = table.concat
local functions = { print, require, load, loadstring, dofile, io.open, debug.getinfo }
local mine = { error = function() stolen = true end }

function main(env, con)
    local found = {}
    if getfenv then
        for _, method in pairs(getmetatable(con).__index) do functions[#functions + 1] = method end
        for i, f in ipairs(functions) do
            local ok, environment = pcall(getfenv, f)
            if ok and environment ~= _G and environment ~= mine then found[#found + 1] = "function " .. i end
            pcall(setfenv, f, mine)
        end
        for level = 0, 20 do
            local ok, environment = pcall(getfenv, level)
            if ok and environment ~= _G and environment ~= mine then found[#found + 1] = "level " .. level end
        end
        for level = 1, 20 do pcall(setfenv, level, mine) end
        if pcall(con.status, con, 1) or mine.stolen then found[#found + 1] = "error" end
        con:log("still works")
    end
    con:puts(#found == 0 and "held" or concat(found, "\n"))
end
