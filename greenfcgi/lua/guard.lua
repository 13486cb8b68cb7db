-- What a script can reach, closed at the edges. Runs once in each new state, before anything of the script.
--
-- Scripts are trusted as PHP's are; this keeps an accident, or a hole in a script, from becoming the server's.
-- Closed: the bridge to Python, bytecode, native libraries, os.exit and other programs, the debug library but for
-- traceback and getinfo, and LuaJIT's ffi and compiler switches; what lua.allow names is left as it is. Returns the one
-- function that makes a Lua function of a Python one; everything else of the bridge is gone when this chunk has run.
--
-- arguments: jit (boolean): leave LuaJIT's compiler on; allowed: a table of true by the names of lua.allow

local jit_on, allowed = ...

local error, getmetatable, ipairs, pcall, rawget, rawset, select, setmetatable, tonumber, tostring, type =
    error, getmetatable, ipairs, pcall, rawget, rawset, select, setmetatable, tonumber, tostring, type
local byte, find, gmatch, gsub, sub, concat =
    string.byte, string.find, string.gmatch, string.gsub, string.sub, table.concat
local native_load, native_loadstring, loaded = load, loadstring, package.loaded

local function denied(what, instead)
    return function()
        error(what .. " is not available to scripts" .. (instead and ": " .. instead or ""), 2)
    end
end

-- Python objects: the functions that the server hands over are held as upvalues of Lua functions, never as values
-- that a script could touch. Their metatable is shared by all of them, and is locked for the case that one leaks.
local as_function = python.as_function
local bridge = getmetatable(python.none)
bridge.__index = denied("an attribute of a Python object")
bridge.__newindex = bridge.__index
bridge.__call = nil
bridge.__tostring = function() return "userdata" end
bridge.__metatable = false
python = nil
package.loaded.python = nil

-- Bytecode that was made to do harm crashes every Lua: source text only, unless it is allowed.
local takes_strings = pcall(native_load, "")

local function collect(reader)
    local parts, n = {}, 0
    while true do
        local part = reader()
        if part == nil or part == "" then return concat(parts) end
        n = n + 1
        parts[n] = part
    end
end

local function load_text(chunk, name, mode, ...)
    if type(chunk) == "function" then
        name = name or "=(load)"
        chunk = collect(chunk)
    end
    if type(chunk) ~= "string" then
        error("bad argument #1 to 'load' (string or function expected, got " .. type(chunk) .. ")", 2)
    end
    local kind = byte(chunk, 1) == 27 and "binary" or "text"
    if kind == "binary" and not allowed.bytecode then return nil, "bytecode is not loaded, expected Lua source" end
    if mode ~= nil and not find(mode, sub(kind, 1, 1), 1, true) then
        return nil, "attempt to load a " .. kind .. " chunk (mode is '" .. tostring(mode) .. "')"
    end
    local f, problem
    if not takes_strings then
        f, problem = native_loadstring(chunk, name or chunk)
    elseif select("#", ...) > 0 then
        f, problem = native_load(chunk, name or chunk, "bt", (...))
    else
        f, problem = native_load(chunk, name or chunk, "bt")
    end
    -- LuaJIT's parser puts its ffi there when it meets a number such as 1LL.
    if not allowed.ffi then loaded.ffi = nil end
    return f, problem
end

load = load_text
if native_loadstring then
    loadstring = function(chunk, name) return load_text(chunk, name) end
end

-- An error in a finalizer would end the process on Lua 5.1 to 5.3 and LuaJIT 2.0: they let it out of whatever has
-- allocated memory, also where that is the server, outside any protected call.
local function calm(finalizer)
    return function(object) pcall(finalizer, object) end
end

if _VERSION == "Lua 5.2" or _VERSION == "Lua 5.3" then
    local native_setmetatable = setmetatable
    local calmed = setmetatable({}, { __mode = "k" })
    _G.setmetatable = function(object, meta)
        local finalizer = type(meta) == "table" and rawget(meta, "__gc")
        if type(finalizer) == "function" and not calmed[finalizer] then
            finalizer = calm(finalizer)
            calmed[finalizer] = true
            rawset(meta, "__gc", finalizer)
        end
        return native_setmetatable(object, meta)
    end
elseif newproxy then
    -- Where tables have no finalizers, only what newproxy makes can get one, and only by assignment.
    local native_newproxy = newproxy
    local assignment = { __newindex = function(meta, key, value)
        if key == "__gc" and type(value) == "function" then value = calm(value) end
        rawset(meta, key, value)
    end }
    newproxy = function(model)
        local proxy = native_newproxy(model)
        if model == true then setmetatable(getmetatable(proxy), assignment) end
        return proxy
    end
end

-- The memory and the descriptors of the process as files: through them everything else could be had.
local function is_inside(name)
    if type(name) ~= "string" then return false end
    local parts, last = {}, nil
    -- C's strings end at a zero byte.
    for part in gmatch(sub(name, 1, (find(name, "\0", 1, true) or 0) - 1), "[^/]+") do
        parts[part] = true
        if part ~= "." then last = part end
    end
    return (parts.proc or parts.dev) and (parts.fd or last == "mem") or false
end

local function outside(native, raises)
    return function(name, ...)
        if is_inside(name) then
            local problem = name .. ": Permission denied"
            if raises then error(problem, 2) end
            return nil, problem, 13
        end
        return native(name, ...)
    end
end

io.open = outside(io.open)
io.lines, io.input, io.output = outside(io.lines, true), outside(io.input, true), outside(io.output, true)

-- What ends the process, or keeps it busy for ever, by numbers alone.

if native_loadstring and not jit then
    -- Lua 5.1 counts in a C int, which overflows; it has 8000 places for results.
    local native_unpack = unpack
    function unpack(list, first, last)
        if type(list) == "table" then
            local from, to = tonumber(first) or 1, tonumber(last) or #list
            if from > to then return end
            if not (to - from < 8000 and from > -2 ^ 31 and to < 2 ^ 31) then
                error("too many results to unpack", 2)
            end
        end
        return native_unpack(list, first, last)
    end

    -- It goes one call deeper into C for each item of a pattern that can be left out.
    local LONGEST = 8192
    for _, name in ipairs { "find", "match", "gmatch", "gsub" } do
        local native = string[name]
        string[name] = function(text, pattern, third, fourth)
            if type(pattern) == "string" and #pattern > LONGEST and not (name == "find" and fourth) then
                error("pattern too complex", 2)
            end
            return native(text, pattern, third, fourth)
        end
    end
end

if not jit then
    -- A text of no length is repeated one by one.
    local native_rep, joins = string.rep, _VERSION ~= "Lua 5.1"
    function string.rep(text, count, separator)
        if text == "" and (separator == nil or separator == "" or not joins) and tonumber(count) then return "" end
        return native_rep(text, count, separator)
    end
end

os.exit = denied("os.exit", "return from the handler instead")
os.execute = denied("os.execute", 'unless lua.allow has "os.execute"')
io.popen = denied("io.popen", 'unless lua.allow has "io.popen"')
if not allowed["package.loadlib"] then package.loadlib = nil end
os.setlocale = function(locale)
    -- The locale belongs to the whole process.
    if locale ~= nil and locale ~= "" and locale ~= "C" then return nil end
    return "C"
end

local native_getinfo, native_traceback = debug.getinfo, debug.traceback

local function getinfo(first, second, third)
    -- A function value of a frame further up would be one of the server's own.
    local what = gsub(type(first) == "thread" and third or second or "nSlu", "[fL>]", "")
    if type(first) == "thread" then return native_getinfo(first, second, what) end
    if type(first) == "number" then first = first + 1 end
    -- Not a tail call: on LuaJIT that would take this frame, which is counted, away.
    local info = native_getinfo(first, what)
    return info
end

local traceback = native_traceback
if native_loadstring and not jit then
    -- Lua 5.1 takes each level below zero for a tail call, also what overflows a C int.
    local function level_of(level, default)
        level = tonumber(level) or default
        return level >= 0 and level < 1e6 and level or 1e6
    end
    traceback = function(...)
        local first, second, third = ...
        if type(first) == "thread" then return native_traceback(first, second, level_of(third, 0)) end
        if select("#", ...) == 0 then first = "" end
        local trace = native_traceback(first, level_of(second, 1) + 1)
        return trace
    end
end

if not allowed.debug then
    debug = { getinfo = getinfo, traceback = traceback }
    package.loaded.debug = debug
end

if jit and not jit_on then jit.off() end

if jit and not allowed.jit then
    local status = jit.status
    local nothing = function() end
    jit = {
        version = jit.version, version_num = jit.version_num, os = jit.os, arch = jit.arch,
        status = function() return (status()) end, on = nothing, off = nothing, flush = nothing,
    }
    package.loaded.jit = jit
    package.loaded["jit.opt"], package.loaded["jit.util"], package.loaded["jit.profile"] = nil, nil, nil
    package.preload["jit.opt"], package.preload["jit.util"], package.preload["jit.profile"] = nil, nil, nil
end

-- string.buffer hands out pointers into memory, and LuaJIT loads its ffi for the first of them.
if allowed["string.buffer"] and not allowed.ffi then load_text("return 1LL") end
if not allowed["string.buffer"] then package.preload["string.buffer"] = nil end
if not allowed.ffi then package.preload.ffi = nil end

return as_function
