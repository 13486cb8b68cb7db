-- Calls that fail: what is raised must be text, since a Python exception would lead to the whole server.
local hostile = setmetatable({}, {
    __tostring = function() return {} end, __index = function() error({}) end, __concat = function() error(print) end,
})
local values = { false, true, -1, 0, 1.5, 1e300, 1 / 0, 0 / 0, 2 ^ 53, 2 ^ 63, "", "x", "\0", ("x"):rep(70000), "\255\254",
    {}, hostile, print, coroutine.create(print), io.stdout }

function main(env, con)
    local found = {}
    local function check(name, ok, ...)
        for i = 1, select("#", ...) do
            local value = select(i, ...)
            local kind = io.type(value) and "file" or type(value)
            if kind == "userdata" or kind == "cdata" or (not ok and kind ~= "string" and kind ~= "table") then
                found[#found + 1] = name .. " gave a " .. kind
            end
        end
        if not ok and type((...)) == "string" and (...):find("[Pp]ython") then found[#found + 1] = name .. ": " .. (...) end
    end
    for _, name in ipairs { "puts", "header", "status", "gets", "config", "log", "sleep", "reset" } do
        for _, first in ipairs(values) do
            -- To sleep for years is what it is asked to do.
            if not (name == "sleep" and type(first) == "number" and first > 10) then
                check(name, pcall(con[name], con, first))
                check(name, pcall(con[name], con, first, first))
                check(name, pcall(con[name], con, "X", first))
                check(name, pcall(con[name], first, first))
            end
        end
        check(name, pcall(con[name]))
    end
    for _, f in ipairs { print, require, dofile, loadfile, load, io.open, io.lines, os.remove } do
        for _, value in ipairs(values) do
            if value ~= io.stdout and value ~= "x" then check(tostring(f), pcall(f, value)) end
        end
    end
    check("coroutine", coroutine.resume(coroutine.create(function() con:status(1) end)))
    check("xpcall", xpcall(function() con:sleep(-1) end, function(problem) return problem end))
    con:reset()
    con:puts(#found == 0 and "held" or table.concat(found, "\n"))
end
