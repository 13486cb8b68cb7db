-- Dictionaries for all states and processes: require "greenfcgi.shared". What a method returns is what that of OpenResty's
-- ngx.shared.DICT does.
--
-- arguments: lua: functions of Lua by their names; server: what modules share (see boot.lua)
--            functions of the server: number(name): that of a dictionary, or nil and why there is none; wait(number): goes
--            on with what has taken long; the others are those of `Store` in store.py, and get the number of a dictionary
--            first, or have it in their names. They return a value, a message, and a number that says what the value is
--            (`Kind` there)

local lua, server, functions = ...

local select, setmetatable, tonumber, tostring, type = lua.select, lua.setmetatable, lua.tonumber, lua.tostring, lua.type
local byte, floor, format, gsub, huge, sub = lua.byte, lua.floor, lua.format, lua.gsub, lua.huge, lua.sub

local GONE, FALSE, TRUE, WAIT, FORCED, FLAGS = 0, 1, 2, 3, 4, 8
local SET, ADD, REPLACE, SAFE = 0, 1, 2, 4
local MAX_KEY, MAX_KEYS, BATCH = 500, 1024, 256
local MAX_FLAGS, MAX_TTL = 4294967295, 2147483647

-- The numbers of the dictionaries that scripts have, and what is called most of each.
local numbers, gets, sets, incrs = {}, {}, {}, {}
local put, wait = functions.put, functions.wait

local function fail(problem) server.errors.blame(problem) end

local function number_of(self, name)
    local number = numbers[self]
    if number then return number end
    fail(format("%s: called with a dot, or on no dictionary: write shared.name:%s(...)", name, name))
end

-- Returns the key as text; or nil and what is wrong with it.
local function text_of(key)
    if key == nil then return nil, "nil key" end
    if type(key) ~= "string" then key = tostring(key) end
    if key == "" then return nil, "empty key" end
    if #key > MAX_KEY then return nil, "key too long" end
    return key
end

-- Returns the number of the dictionary, and the key as text; or nil and what is wrong with the key.
local function target(self, name, key)
    local number = number_of(self, name)
    local text, problem = text_of(key)
    if not text then return nil, problem end
    return number, text
end

-- A function of the server has waited, or the client has gone.
local function settled(value, problem, kind)
    while kind == WAIT do
        server.call("slow", server.errors.way(3))
        value, problem, kind = wait(value)
    end
    if kind == GONE then server.raise_disconnected() end
    return value, problem, kind
end

-- Whether it has been done, or a value that is no boolean, nil and a message.
local function done(value, problem, kind)
    if kind == WAIT or kind == GONE then value, problem, kind = settled(value, problem, kind) end
    if kind == TRUE then return true end
    if value ~= nil then return value end
    return nil, problem
end

local function checked_ttl(ttl, name)
    if ttl == nil then return 0 end
    if type(ttl) ~= "number" or not (ttl >= 0 and ttl <= MAX_TTL) then fail(format('bad "%s" argument', name)) end
    return ttl
end

local function checked_count(count, default)
    if count == nil then return default end
    if type(count) ~= "number" or count < 0 or count ~= count then fail('bad "max_count" argument') end
    return count == 0 and huge or floor(count)
end

local function checked_number(value, name)
    local found = tonumber(value)
    if not found then fail(format("bad %s arg: number expected, got %s", name, type(value))) end
    return found
end

local methods = {}
local meta = { __index = methods, __metatable = false }

function methods:get(key)
    local get = gets[self] or number_of(self, "get")
    if type(key) ~= "string" or key == "" or #key > MAX_KEY then
        local problem
        key, problem = text_of(key)
        if not key then return nil, problem end
    end
    local value, problem, kind = get(key)
    if kind == nil then return value end
    if kind == WAIT or kind == GONE then
        value, problem, kind = settled(value, problem, kind)
        if kind == nil then return value end
    end
    if problem then return nil, problem end
    local flags = floor(kind / FLAGS)
    kind = kind - flags * FLAGS
    if kind == TRUE then value = true elseif kind == FALSE then value = false end
    if flags ~= 0 then return value, flags end
    return value
end

local function store(mode, self, name, key, value, ttl, flags)
    if ttl ~= nil then ttl = checked_ttl(ttl, "exptime") end
    if flags ~= nil and not (type(flags) == "number" and flags >= 0 and flags <= MAX_FLAGS and flags % 1 == 0) then
        fail('bad "flags" argument')
    end
    local number, text = target(self, name, key)
    if not number then return nil, text end
    local what = type(value)
    local first, problem, kind
    if what == "string" or what == "number" or what == "boolean" then
        first, problem, kind = put(number, text, value, ttl or 0, flags or 0, mode)
    elseif what ~= "nil" then
        return nil, "bad value type"
    elseif mode % SAFE == SET then
        first, problem, kind = functions.delete(number, text)
    else
        return nil, "attempt to add or replace nil values"
    end
    if kind == WAIT or kind == GONE then problem, kind = select(2, settled(first, problem, kind)) end
    return kind ~= FALSE, problem, kind == FORCED
end

function methods:set(key, value, ttl, flags)
    local set, what = sets[self], type(value)
    if ttl or flags or not set or type(key) ~= "string" or key == "" or #key > MAX_KEY or
        (what ~= "string" and what ~= "number" and what ~= "boolean") then
        return store(SET, self, "set", key, value, ttl, flags)
    end
    local first, problem, kind = set(key, value)
    if kind == WAIT or kind == GONE then problem, kind = select(2, settled(first, problem, kind)) end
    return kind ~= FALSE, problem, kind == FORCED
end

function methods:safe_set(key, value, ttl, flags) return store(SET + SAFE, self, "safe_set", key, value, ttl, flags) end
function methods:add(key, value, ttl, flags) return store(ADD, self, "add", key, value, ttl, flags) end
function methods:safe_add(key, value, ttl, flags) return store(ADD + SAFE, self, "safe_add", key, value, ttl, flags) end
function methods:replace(key, value, ttl, flags) return store(REPLACE, self, "replace", key, value, ttl, flags) end
function methods:delete(key) return store(SET, self, "delete", key) end

function methods:incr(key, value, init, init_ttl)
    if type(value) ~= "number" then value = checked_number(value, "value") end
    if init then
        init = checked_number(init, "init")
    elseif init_ttl ~= nil then
        fail('must provide "init" when providing "init_ttl"')
    end
    if init_ttl ~= nil then init_ttl = checked_ttl(checked_number(init_ttl, "init_ttl"), "init_ttl") end
    local number, text = target(self, "incr", key)
    if not number then return nil, text end
    local sum, problem, kind
    if init then
        sum, problem, kind = incrs[self](text, value, init, init_ttl or 0)
    else
        sum, problem, kind = incrs[self](text, value)
    end
    if kind == WAIT or kind == GONE then sum, problem, kind = settled(sum, problem, kind) end
    if sum == nil then return nil, problem end
    if init then return sum, nil, kind == FORCED end
    return sum
end

function methods:expire(key, ttl)
    if ttl == nil then fail('bad "exptime" argument') end
    ttl = checked_ttl(ttl, "exptime")
    local number, text = target(self, "expire", key)
    if not number then return nil, text end
    return done(functions.expire(number, text, ttl))
end

function methods:ttl(key)
    local number, text = target(self, "ttl", key)
    if not number then return nil, text end
    return done(functions.ttl(number, text))
end

-- The keys in a table, at most max_count of them; 0: all.
function methods:keys(max_count)
    local number, found, seen, n = number_of(self, "keys"), {}, {}, 0
    local place = ""
    max_count = checked_count(max_count, MAX_KEYS)
    repeat
        local packed, next_place = settled(functions.keys(number, place, max_count - n < BATCH and max_count - n or BATCH))
        if packed == nil then return nil, next_place end
        local at = 1
        while at < #packed and n < max_count do
            server.count(1)
            local high, low = byte(packed, at, at + 1)
            local last = at + 1 + high * 256 + low
            local key = sub(packed, at + 2, last)
            if not seen[key] then n, seen[key], found[n + 1] = n + 1, true, key end
            at = last + 1
        end
        place = next_place
    until not place or n >= max_count
    return found
end
methods.get_keys = methods.keys

function methods:flush_all()
    local number, place = number_of(self, "flush_all"), ""
    repeat
        server.count(1)
        local problem, kind
        place, problem, kind = settled(functions.flush_all(number, place))
        if kind == FALSE then return nil, problem end
    until not place
end

function methods:flush_expired(max_count)
    local number, n = number_of(self, "flush_expired"), 0
    max_count = checked_count(max_count, huge)
    while n < max_count do
        server.count(1)
        local wanted = max_count - n < BATCH and max_count - n or BATCH
        local count, problem = settled(functions.flush_expired(number, wanted))
        if count == nil then return nil, problem end
        n = n + count
        if count < wanted then break end
    end
    return n
end

local function push(self, name, key, value, left)
    local number, text = target(self, name, key)
    if not number then return nil, text end
    if type(value) ~= "string" and type(value) ~= "number" then return nil, "bad value type" end
    return done(functions.push(number, text, value, left))
end

local function pop(self, name, key, left)
    local number, text = target(self, name, key)
    if not number then return nil, text end
    return done(functions.pop(number, text, left))
end

function methods:lpush(key, value) return push(self, "lpush", key, value, true) end
function methods:rpush(key, value) return push(self, "rpush", key, value, false) end
function methods:lpop(key) return pop(self, "lpop", key, true) end
function methods:rpop(key) return pop(self, "rpop", key, false) end

function methods:llen(key)
    local number, text = target(self, "llen", key)
    if not number then return nil, text end
    return done(functions.length(number, text))
end

-- Returns a token, for unlock; or nil and "locked" while somebody has it.
function methods:lock(name, ttl)
    if type(ttl) ~= "number" or not (ttl > 0 and ttl <= MAX_TTL) then fail('bad "ttl" argument') end
    local number, text = target(self, "lock", name)
    if not number then return nil, text end
    local token = gsub(server.ask("entropy", 8), ".", function(c) return format("%02x", byte(c)) end)
    return done(functions.lock(number, text, token, ttl))
end

function methods:unlock(name, token)
    if type(token) ~= "string" then fail('bad "token" argument') end
    local number, text = target(self, "unlock", name)
    if not number then return nil, text end
    return done(functions.unlock(number, text, token))
end

-- By their names, once they have been asked for.
local dictionaries = {}

local function dictionary(name)
    if type(name) ~= "string" then fail("shared: expected the name of a dictionary, got " .. type(name)) end
    local found = dictionaries[name]
    if not found then
        local number, problem = functions.number(name)
        if not number then fail(problem) end
        found = setmetatable({}, meta)
        dictionaries[name], numbers[found] = found, number
        gets[found], sets[found], incrs[found] =
            functions["get " .. number], functions["set " .. number], functions["incr " .. number]
    end
    return found
end

return setmetatable({}, {
    __index = function(_, name) return dictionary(name) end,
    __call = function(_, name) return dictionary(name) end,
    __newindex = function() fail("shared: dictionaries are named in [shared] of config.toml") end,
    __metatable = false,
})
