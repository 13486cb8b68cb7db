-- Runs luafcgid's config.lua with little in reach, and returns what it has set. The only Lua in its runtime.
--
-- arguments: text: the file; names: of the settings, with blanks between them
-- returns: false and a message; or true, the names of other globals that it has set, and for each of the settings that
--          it has set three values: name, type, and the value where it is a text, a number or a boolean

local text, names = ...
local type, error, rawget, tostring = type, error, rawget, tostring

local function closed(what)
    return function() error(what .. " is not available to a file that is imported", 2) end
end

local function closed_table(name)
    return setmetatable({}, { __index = function(_, key)
        error(name .. "." .. tostring(key) .. " is not available to a file that is imported", 2)
    end })
end

-- Functions of tables of their own: nothing else of Lua is in reach, and nothing of it can be replaced.
local function copy(from, wanted)
    local to = {}
    for name in wanted:gmatch("%S+") do to[name] = from[name] end
    return to
end

local env = copy(_G, "_VERSION assert error ipairs next pairs pcall rawequal rawget rawset select tonumber tostring " ..
    "type unpack xpcall")
for _, name in ipairs { "coroutine", "math", "string", "table", "utf8", "bit", "bit32" } do
    if _G[name] then
        env[name] = {}
        for key, value in pairs(_G[name]) do env[name][key] = value end
    end
end
env.os = copy(os, "clock date difftime getenv time")
for _, name in ipairs { "execute", "exit", "remove", "rename", "setlocale", "tmpname" } do
    env.os[name] = closed("os." .. name)
end
for name in ("collectgarbage dofile load loadfile loadstring module newproxy require setfenv getfenv"):gmatch("%S+") do
    env[name] = closed(name)
end
for _, name in ipairs { "io", "debug", "package" } do env[name] = closed_table(name) end
env.print = function() end
env.getmetatable = function(value) return type(value) == "table" and getmetatable(value) or nil end
env.setmetatable = function(value, metatable)
    -- It would run when nobody looks any more; false is enough for one that is put in its place later.
    if type(metatable) == "table" and rawget(metatable, "__gc") ~= nil then error("a finalizer is not available here", 2) end
    return setmetatable(value, metatable)
end
env._G = env

local is_ours = {}
for name in pairs(env) do is_ours[name] = true end

local chunk, problem
if setfenv then
    chunk, problem = loadstring(text, "=import")
    if chunk then setfenv(chunk, env) end
else
    chunk, problem = load(text, "=import", "t", env)
end
if not chunk then return false, problem end

local results, count = { true, "" }, 2
local function read()
    chunk()
    local others, is_known = {}, {}
    for name in names:gmatch("%S+") do
        is_known[name] = true
        local value = env[name]
        local kind = type(value)
        if kind ~= "nil" then
            results[count + 1], results[count + 2] = name, kind
            if kind == "string" or kind == "number" or kind == "boolean" then results[count + 3] = value end
            count = count + 3
        end
    end
    for name, value in next, env do
        if type(name) == "string" and not is_ours[name] and not is_known[name] then
            others[#others + 1] = type(value) == "function" and name .. "()" or name
        end
    end
    table.sort(others)
    results[2] = table.concat(others, " ")
end

local done, message = pcall(read)
if done then return (unpack or table.unpack)(results, 1, count) end
return false, type(message) == "string" and message or "it raises an error that is a " .. type(message)
