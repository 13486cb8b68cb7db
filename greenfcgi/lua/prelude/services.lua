-- What few scripts use of con beside the response: gets, config, log, and several values at once. Compiled when the first of
-- it is used.
--
-- returns: a table: those methods of con; hook_con: con as hooks have it; joined(...): the values of puts as one text

local lua, server = ...

local tonumber, tostring, type = lua.tonumber, lua.tostring, lua.type

-- Values that one call writes.
local MAX_VALUES <const> = 8

local function joined(...)
    local parts, n = { ... }, MAX_VALUES + 1
    while parts[n] == nil do n = n - 1 end
    if n > MAX_VALUES then server.refusals.too_many(MAX_VALUES) end
    for i = 1, n do
        local part = parts[i]
        if type(part) == "number" then
            parts[i] = tostring(part)
        elseif type(part) ~= "string" then
            server.refusals.wrong("puts", i, "string", part)
        end
    end
    return lua.concat(parts, "", 1, n)
end

local function gets(self, n)
    server.check(self, "gets")
    if n ~= nil and (type(n) ~= "number" or n % 1 ~= 0 or n < 0) then server.refusals.wrong_size(n) end
    if n == 0 then return "" end
    local data, problem = server.ask("read", n and lua.floor(n) or -1)
    if problem and not data then lua.error(problem, 0) end
    if n and data == "" then return nil, problem end
    if problem then return data, problem end
    return data
end

-- What hooks can use too.

local function config(_, name)
    local value = server.settings.values
    for key in lua.gmatch(tostring(name), "[^.]+") do
        if type(value) ~= "table" then return nil end
        local item = value[key]
        if item == nil then item = value[tonumber(key)] end
        value = item
    end
    return value
end

local LEVELS = { debug = true, info = true, warning = true, error = true, critical = true }

local function log(self, level, text)
    if type(self) ~= "table" then server.refusals.refuse(self, "log") end
    if text == nil then level, text = "info", level end
    if not LEVELS[level] then server.refusals.wrong_level(level) end
    text = tostring(text)
    -- What a __tostring returns is looked at by 5.3 and later only.
    if type(text) ~= "string" then server.errors.blame("'__tostring' must return a string") end
    server.call("log", level, text)
end

local hook_con = lua.setmetatable({}, { __index = { config = config, log = log, sleep = server.waiting.sleep } })

return { gets = gets, config = config, log = log, joined = joined, hook_con = hook_con }
