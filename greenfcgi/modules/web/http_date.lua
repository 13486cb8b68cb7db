-- Dates of HTTP, ETags and conditional requests (RFC 9110): require "greenfcgi.http_date".
--
-- arguments: lua, server: see boot.lua
--            functions of the server: now(): seconds since 1970; tag(text): an opaque tag for a text

local lua, server, functions = ...

local find, floor, format, gmatch, gsub, lower, match, tonumber, tostring, type =
    lua.find, lua.floor, lua.format, lua.gmatch, lua.gsub, lua.lower, lua.match, lua.tonumber, lua.tostring, lua.type

local DAY = 86400
local DAYS = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" }
local MONTHS = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" }
local LENGTHS = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }
-- Years 1 to 9999.
local FIRST, LAST = -62135596800, 253402300799
-- Methods for which nothing is changed.
local SAFE = { GET = true, HEAD = true }

local months = {}
for number, name in lua.ipairs(MONTHS) do months[lower(name)] = number end

local M = {}

local function blame(...) server.errors.blame(format(...)) end

-- Days since 1970 of a date, and back; a year begins in March here, so that a leap day is the last one.

local function days_of(year, month, day)
    if month <= 2 then year = year - 1 end
    local era = floor(year / 400)
    local of_era = year - era * 400
    local of_year = floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1
    return era * 146097 + of_era * 365 + floor(of_era / 4) - floor(of_era / 100) + of_year - 719468
end

local function date_of(days)
    days = days + 719468
    local era = floor(days / 146097)
    local of_era = days - era * 146097
    local year = floor((of_era - floor(of_era / 1460) + floor(of_era / 36524) - floor(of_era / 146096)) / 365)
    local of_year = of_era - (365 * year + floor(year / 4) - floor(year / 100))
    local shifted = floor((5 * of_year + 2) / 153)
    local month = (shifted + 2) % 12 + 1
    return year + era * 400 + (month <= 2 and 1 or 0), month, of_year - floor((153 * shifted + 2) / 5) + 1
end

-- Seconds since 1970 as "Sun, 06 Nov 1994 08:49:37 GMT"; without a time it is now.
function M.format(seconds)
    if seconds == nil then seconds = functions.now() end
    if type(seconds) ~= "number" or not (seconds >= FIRST and seconds <= LAST) then
        blame("bad argument #1 to 'format' (found %s, expected seconds since 1970)",
            type(seconds) == "number" and tostring(seconds) or type(seconds))
    end
    seconds = floor(seconds)
    local days = floor(seconds / DAY)
    local rest = seconds - days * DAY
    local year, month, day = date_of(days)
    return format("%s, %02d %s %04d %02d:%02d:%02d GMT", DAYS[(days + 4) % 7 + 1], day, MONTHS[month], year,
        floor(rest / 3600), floor(rest / 60) % 60, rest % 60)
end

-- The three forms: IMF-fixdate, RFC 850's, and that of asctime.
local function pieces(text)
    local day, month, year, hour, minute, second =
        match(text, "^%a%a%a, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$")
    if day then return day, month, tonumber(year), hour, minute, second end
    day, month, year, hour, minute, second = match(text, "^%a+day, (%d%d)%-(%a%a%a)%-(%d%d) (%d%d):(%d%d):(%d%d) GMT$")
    if day then
        -- A year of two digits is none that is more than 50 years ahead.
        local now = date_of(floor(functions.now() / DAY))
        year = now - now % 100 + tonumber(year)
        if year > now + 50 then year = year - 100 end
        return day, month, year, hour, minute, second
    end
    month, day, hour, minute, second, year = match(text, "^%a%a%a (%a%a%a) ([ %d]%d) (%d%d):(%d%d):(%d%d) (%d%d%d%d)$")
    if day then return day, month, tonumber(year), hour, minute, second end
end

-- Returns seconds since 1970; nil and a message where it is no date of HTTP.
function M.parse(text)
    if type(text) ~= "string" then blame("bad argument #1 to 'parse' (string expected, got %s)", type(text)) end
    local day, month, year, hour, minute, second = pieces(text)
    if not day then return nil, "not a date of HTTP" end
    day, hour, minute, second = tonumber(day), tonumber(hour), tonumber(minute), tonumber(second)
    month = months[lower(month)]
    if not month or day < 1 or day > LENGTHS[month] or year < 1 or hour > 23 or minute > 59 or second > 60 then
        return nil, "not a date of HTTP"
    end
    local days = days_of(year, month, day)
    local _, same = date_of(days)
    if same ~= month then return nil, "not a date of HTTP" end
    return floor(days * DAY + hour * 3600 + minute * 60 + second)
end

-- ETags

-- An ETag for a text; a weak one is for what means the same, though its bytes may differ.
function M.etag(text, weak)
    if type(text) ~= "string" then blame("bad argument #1 to 'etag' (string expected, got %s)", type(text)) end
    return (weak and 'W/"' or '"') .. functions.tag(text) .. '"'
end

-- As a header has it, for what may stand without its quotes.
local function quoted(etag, name)
    if type(etag) ~= "string" or find(etag, "[%c\127]") then
        blame("bad field 'etag' of argument #3 to '%s' (expected text without control characters)", name)
    end
    if find(etag, '^W?/?"[^"]*"$') and match(etag, '^(.-)"') ~= "W" and match(etag, '^(.-)"') ~= "/" then return etag end
    if find(etag, '"', 1, true) then
        blame("bad field 'etag' of argument #3 to '%s' (found a quote within it)", name)
    end
    return '"' .. etag .. '"'
end

-- The list of a header has this tag. The strong comparison is for what is to be changed.
local function has(list, etag, is_strong)
    if match(list, "^%s*%*%s*$") then return true end
    local plain = gsub(etag, "^W/", "")
    if is_strong and plain ~= etag then return false end
    for weak, tag in gmatch(list, '(W?/?)("[^"]*")') do
        server.count(1)
        if tag == plain and not (is_strong and weak ~= "") then return true end
    end
    return false
end

-- What the conditions of a request come to: nil: to be answered as usual; 304; 412.
local function judge(env, etag, modified)
    local is_safe = SAFE[env.REQUEST_METHOD] or false
    local if_match, if_unmodified = env.HTTP_IF_MATCH, env.HTTP_IF_UNMODIFIED_SINCE
    if if_match then
        if not (etag and has(if_match, etag, true)) then return 412 end
    elseif if_unmodified and modified then
        local since = M.parse(if_unmodified)
        if since and modified > since then return 412 end
    end
    local if_none_match, if_modified = env.HTTP_IF_NONE_MATCH, env.HTTP_IF_MODIFIED_SINCE
    if if_none_match then
        if etag and has(if_none_match, etag, false) then return is_safe and 304 or 412 end
    elseif if_modified and modified and is_safe then
        local since = M.parse(if_modified)
        if since and modified <= since then return 304 end
    end
end

-- Sets ETag and Last-Modified, and answers a request whose conditions are not met, with 304 or 412. Returns whether it has:
-- then there is nothing left to do.
function M.not_modified(env, con, what)
    if type(env) ~= "table" then blame("bad argument #1 to 'not_modified' (table expected, got %s)", type(env)) end
    if type(con) ~= "table" then blame("bad argument #2 to 'not_modified' (con expected, got %s)", type(con)) end
    if type(what) ~= "table" then blame("bad argument #3 to 'not_modified' (table expected, got %s)", type(what)) end
    local etag, modified = what.etag, what.modified
    if etag ~= nil then
        etag = quoted(etag, "not_modified")
        con:header("ETag", etag)
    end
    if modified ~= nil then
        con:header("Last-Modified", M.format(modified))
        modified = floor(modified)
    end
    local status = judge(env, etag, modified)
    if not status then return false end
    con:reset()
    con:status(status)
    if status == 412 then
        con:header("Content-Type", "text/plain; charset=utf-8")
        con:puts("The condition of the request is not met.\n")
    end
    return true
end

return M
