-- What few scripts use of con, compiled when the first of it is used; and what it says of wrong arguments.
--
-- arguments: lua: functions of Lua by their names (see boot.lua); errors(): the functions of errors.lua
--            host, settings: as in con.lua; check(con, name): raises where this is not the con of the request
--            set_status(number, reason); breaks: a pattern of what ends a header; is_sent(): the headers have left
-- returns: a table: methods of con, and functions that raise errors

local lua, errors, host, settings, check, set_status, BREAKS, is_sent = ...

local error, tonumber, tostring, type = lua.error, lua.tonumber, lua.tostring, lua.type
local byte, find, format, gmatch, gsub, match = lua.byte, lua.find, lua.format, lua.gmatch, lua.gsub, lua.match
local floor = lua.floor

local LEVELS = { debug = true, info = true, warning = true, error = true, critical = true }

local function blame(problem) errors().blame(problem) end

local function refuse(con, name)
    if type(con) ~= "table" then blame("con." .. name .. " called with a dot: write con:" .. name .. "(...)") end
    blame("con:" .. name .. ": this con belongs to a request that has ended")
end

local function wrong(name, position, expected, value)
    blame(format("bad argument #%d to '%s' (%s expected, got %s)", position, name, expected, type(value)))
end

local function too_many(most) blame("con:puts: more than " .. most .. " values: call it again for the others") end

local function visible(s)
    return (gsub(s, "[%c\127]", function(c) return format("\\x%02X", byte(c)) end))
end

local function wrong_name(name)
    blame(format("header '%s': its name has a character that no header name can have", visible(name)))
end

local function no_colon(line) blame(format("header '%s': expected 'Name: value', found no colon", visible(line))) end

local function broken(name)
    blame(format("header '%s': its value has a line break or a zero byte, which would end the header early", name))
end

-- A header that is more than a line. Returns the length that it declares, if it is to be sent.
local function special(key, value)
    if key == "transfer-encoding" then
        host.log("warning", "header Transfer-Encoding dropped: the web server chooses it")
    elseif key == "status" then
        local number, reason = match(value .. " ", "^([2-9]%d%d)%s+(.-)%s*$")
        if not number then
            blame(format("header 'Status': found '%s', expected a number from 200 to 999 and a reason", visible(value)))
        end
        set_status(tonumber(number), reason ~= "" and reason or nil)
    else
        if not find(value, "^%d+$") or #value > 15 then
            blame(format("header 'Content-Length': found '%s', expected a number of bytes", visible(value)))
        end
        return tonumber(value)
    end
end

local function status(self, number, reason)
    check(self, "status")
    if type(number) ~= "number" then wrong("status", 1, "number", number) end
    if number % 1 ~= 0 or number < 200 or number > 999 then
        blame(format("status %s: expected a whole number from 200 to 999", tostring(number)))
    end
    if reason ~= nil then
        if type(reason) ~= "string" then wrong("status", 2, "string", reason) end
        if find(reason, BREAKS) then blame("status: its reason has a line break or a zero byte") end
    end
    if is_sent() then
        host.log("warning", format("status %d ignored: the headers have been sent already", number))
    else
        set_status(floor(number), reason)
    end
end

local function gets(self, n)
    check(self, "gets")
    if n ~= nil and (type(n) ~= "number" or n % 1 ~= 0 or n < 1) then
        blame(format("bad argument #1 to 'gets' (found %s, expected a whole number of bytes from 1 up)", tostring(n)))
    end
    local data, problem = host.read(n and floor(n) or -1)
    if problem and not data then error(problem, 0) end
    if n and data == "" then return nil, problem end
    if problem then return data, problem end
    return data
end

-- What hooks can use too.
local function config(_, name)
    local value = settings.config
    for key in gmatch(tostring(name), "[^.]+") do
        if type(value) ~= "table" then return nil end
        local item = value[key]
        if item == nil then item = value[tonumber(key)] end
        value = item
    end
    return value
end

local function log(self, level, text)
    if type(self) ~= "table" then blame("con.log called with a dot: write con:log(...)") end
    if text == nil then level, text = "info", level end
    if not LEVELS[level] then
        blame(format("log level '%s': expected debug, info, warning, error or critical", visible(tostring(level))))
    end
    text = tostring(text)
    -- What a __tostring returns is looked at by 5.3 and later only.
    if type(text) ~= "string" then blame("'__tostring' must return a string") end
    host.log(level, text)
end

local function sleep(_, seconds)
    if type(seconds) ~= "number" or not (seconds >= 0 and seconds < 1e9) then
        blame(format("bad argument #1 to 'sleep' (found %s, expected seconds from 0 up)", tostring(seconds)))
    end
    host.sleep(seconds)
end

return {
    status = status, gets = gets, config = config, log = log, sleep = sleep, special = special,
    refuse = refuse, wrong = wrong, too_many = too_many, wrong_name = wrong_name, no_colon = no_colon, broken = broken,
}
