-- What happens to an error, and to the ways to places that logs show: compiled when the first of it is used.
--
-- arguments: lua, server: see boot.lua
-- returns: a table:
--          way(level): the traceback of what called the function at that level, without the server's own frames; or what
--          `explained` has learnt
--          corrected(problem, thread, level): a message as it is without the server's own code, which it names; the level
--          is where the error has happened. It gets the place from where that code was called, which stands between the
--          script and a function of Lua
--          blame(problem): raises an error at the line of the script that has called
--          call(name, native, ...): calls one of Lua's own functions; an error is one of the line of the script that
--          called, as if nothing stood between. Not for functions that call others
--          faithful(native, name): a function that does so
--          explained(problem): what was raised as text, whatever it was. Nobody has caught it: server.on_error(problem),
--          where that is set, may return the traceback of where it was first, for one that was raised again
--          is_own(info): this is of a function that stands in the server's own code

local lua, server = ...

local error, pcall, tostring, type = lua.error, lua.pcall, lua.tostring, lua.type
local find, format, gsub, match, getinfo, traceback =
    lua.find, lua.format, lua.gsub, lua.match, lua.getinfo, lua.traceback

local first

-- The chunks of the server are called "greenfcgi", or "?" where a Lua forgets that with the line numbers.
local function way(level)
    local trace = gsub(first or traceback("", level + 1), "\n%s*greenfcgi:", "\n?:")
    first = nil
    -- What stands in for a function of Lua is shown as that, without the one that it calls.
    trace = gsub(gsub(trace, "\n%s*%[C%]: [^\n]*(\n%s*%[C%]:)%d+:", "%1"), "(\n%s*%[C%]:)%d+:", "%1")
    trace = gsub(trace, "\n%s*%[C%]: in function ''(\n%s*%[C%]:)", "%1")
    trace = gsub(gsub(trace, "\n%s*%[C%]:[^\n]*(\n%s*%?:)", "%1"), "\n%s*%?:[^\n]*", "")
    repeat
        local before = trace
        trace = gsub(gsub(trace, "\n%s*%[C%]: [^\n]*$", ""), "\n%s*%([^\n]*tail call[^\n]*$", "")
        -- Above the script, these are of the server's own functions.
        trace = gsub(trace, "^(\nstack traceback:)\n%s*%([^\n]*tail call[^\n]*", "%1")
    until trace == before
    return trace
end

local function is_own(info)
    local source = info.source
    return source == "=greenfcgi" or source == "=?" or source == "@greenfcgi" or source == "=[C]" and info.what ~= "C"
end

-- No tail calls here and below: they would take away frames that are counted.
local function frame(thread, level)
    local info
    if thread then info = getinfo(thread, level, "Sln") else info = getinfo(level + 1, "Sln") end
    return info
end

-- "bad argument #2 to 'native'": the name is that of what stands in for the function; an object before a colon does not
-- count.
local function renamed(text, info)
    local number, rest = match(text, "^bad argument #(%d+) to '[^']*' (.*)$")
    if not number then return text end
    local name = info.name or "?"
    if info.namewhat == "method" then number = number - 1 end
    if number == 0 then return "calling '" .. name .. "' on bad self " .. rest end
    return format("bad argument #%d to '%s' %s", number, name, rest)
end

local function corrected(problem, thread, level)
    local text = match(problem, "^greenfcgi:%d+: (.*)$") or match(problem, "^%[C%]:%d+: (.*)$")
        or match(problem, "^%?:[-%d?]+: (.*)$")
    if not text then return problem end
    if not thread then level = level + 1 end
    local info = frame(thread, level)
    while info and (info.what == "C" or info.what == "tail") do
        level = level + 1
        info = frame(thread, level)
    end
    -- The script has made this text itself.
    if not info or not is_own(info) then return problem end
    text = renamed(text, info)
    while info and (info.what == "tail" or is_own(info)) do
        level = level + 1
        info = frame(thread, level)
    end
    if info and info.currentline > 0 then return info.short_src .. ":" .. info.currentline .. ": " .. text end
    return text
end

-- Raise an error at the line of the script that has called.
local function blame(problem)
    local level = 2
    local info = getinfo(level, "S")
    while info and (info.what == "tail" or is_own(info)) do
        level = level + 1
        info = getinfo(level, "S")
    end
    error(problem, level)
end

local function passed_on(name, ok, ...)
    if ok then return ... end
    local problem = ...
    if server.is_final(problem) or type(problem) ~= "string" then error(problem, 0) end
    blame((gsub(problem, "^(bad argument #%d+ to )'%?'", "%1'" .. name .. "'")))
end

local function call(name, native, ...) return passed_on(name, pcall(native, ...)) end

local function faithful(native, name)
    return function(...) return passed_on(name, pcall(native, ...)) end
end

local function explained(problem)
    local on_error = lua.rawget(server, "on_error")
    if on_error then first = on_error(problem) end
    if type(problem) == "string" then return problem end
    local ok, text = pcall(tostring, problem)
    if ok and type(text) == "string" and not find(text, "^%a+: 0?x?%x+$") then return text end
    local message = "(error object is a " .. type(problem) .. " value)"
    if type(problem) == "table" then
        ok, text = pcall(server.show, problem)
        if ok and text ~= "{}" then message = message .. ": " .. text end
    end
    return message
end

return {
    way = way, corrected = corrected, blame = blame, call = call, faithful = faithful, explained = explained, is_own = is_own,
}
