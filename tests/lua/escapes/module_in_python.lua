-- A module that is written in Python: its functions, what they return and raise, in coroutines, finalizers and handlers,
-- with libraries that the script has changed.
local mine = require "mine"
local found, seen = {}, {}

local function look(value, what)
    local kind = type(value)
    if io.type(value) then return end
    if kind == "userdata" or kind == "cdata" then found[#found + 1] = what .. " is a " .. kind end
    if kind ~= "table" or seen[value] then return end
    seen[value] = true
    for key, item in next, value do
        look(key, what .. "'s key")
        look(item, what .. "." .. tostring(key))
    end
end

local function look_at(what, ...)
    for i = 1, select("#", ...) do look((select(i, ...)), what) end
end

local function objects()
    local list = { print, coroutine.create(print), io.stdout, { print }, { [{}] = 1 }, { [io.stdout] = 1 } }
    if newproxy then list[#list + 1] = newproxy(true) end
    return list
end

function main(env, con)
    look(mine, "the module")
    for name, f in next, mine do
        for _, object in ipairs(objects()) do
            look_at(name, pcall(f, object))
            look_at(name, pcall(f, { object }))
        end
        look_at(name, pcall(f))
        look_at(name, pcall(f, 1, "x", { { 1 } }, nil))
        look_at(name, xpcall(f, function(problem)
            look(problem, name .. "'s problem")
            return problem
        end))
        look_at(name, coroutine.resume(coroutine.create(f), { 1 }))
        if debug.getinfo then
            local info = debug.getinfo(f)
            info.func = nil
            look(info, name .. "'s info")
        end
        if getfenv then look_at(name .. "'s environment", pcall(getfenv, f)) end
        if string.dump then look_at(name .. "'s code", pcall(string.dump, f)) end
    end
    -- The wait of a blocking function has a function of its own, which is nobody's to call.
    look_at("the wait", pcall(function() return mine[" wait"]() end))
    local sub, find, next_one, kind = string.sub, string.find, next, type
    string.sub, string.find = function() return mine end, function() return 1, 1, 1 end
    next, type = function() end, function() return "string" end
    local ok, back = pcall(mine.echo, { a = { 1, 2 } })
    string.sub, string.find, next, type = sub, find, next_one, kind
    if not ok or back.a[2] ~= 2 then found[#found + 1] = "changed libraries change what crosses" end
    con:puts(#found == 0 and "held" or table.concat(found, "\n"))
end
