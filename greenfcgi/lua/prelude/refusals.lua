-- What is said of wrong arguments to the methods of con, at the line of the script that has called. Compiled for the first.
--
-- returns: a table of functions that raise an error

local lua, server = ...

local format, gsub, tostring, type = lua.format, lua.gsub, lua.tostring, lua.type
local blame = server.errors.blame

local function visible(text)
    return (gsub(text, "[%c\127]", function(c) return format("\\x%02X", lua.byte(c)) end))
end

local M = {}

function M.refuse(con, name)
    if type(con) ~= "table" then blame("con." .. name .. " called with a dot: write con:" .. name .. "(...)") end
    if server.response_access.is_answered(con) then blame("con:" .. name .. ": con:finish() has sent the reply already") end
    blame("con:" .. name .. ": this con belongs to a request that has ended")
end

function M.wrong(name, position, expected, value)
    blame(format("bad argument #%d to '%s' (%s expected, got %s)", position, name, expected, type(value)))
end

function M.too_many(max_values) blame("con:puts: more than " .. max_values .. " values: call it again for the others") end

function M.wrong_name(name)
    blame(format("header '%s': its name has a character that no header name can have", visible(name)))
end

function M.no_colon(line) blame(format("header '%s': expected 'Name: value', found no colon", visible(line))) end

function M.broken(name)
    blame(format("header '%s': its value has a line break or a zero byte, which would end the header early", name))
end

function M.wrong_status(value)
    blame(format("header 'Status': found '%s', expected a number from 200 to 999 and a reason", visible(value)))
end

function M.wrong_length(value)
    blame(format("header 'Content-Length': found '%s', expected a number of bytes", visible(value)))
end

function M.no_status(number) blame(format("status %s: expected a whole number from 200 to 999", tostring(number))) end

function M.broken_reason() blame("status: its reason has a line break or a zero byte") end

function M.wrong_size(n)
    blame(format("bad argument #1 to 'gets' (found %s, expected a whole number of bytes from 0 up)", tostring(n)))
end

function M.wrong_level(level)
    blame(format("log level '%s': expected debug, info, warning, error or critical", visible(tostring(level))))
end

function M.wrong_seconds(seconds)
    blame(format("bad argument #1 to 'sleep' (found %s, expected seconds from 0 up)", tostring(seconds)))
end

return M
