-- What a script can reach, closed at the edges. Runs once in each new state, before anything of the script.
--
-- Scripts are trusted as PHP's are; this keeps an accident, or a hole in a script, from becoming the server's.
-- Closed: the bridge to Python, bytecode, native libraries, os.exit and other programs, the debug library but for
-- traceback and getinfo, and LuaJIT's ffi and compiler switches. Returns the one function that makes a Lua
-- function of a Python one; everything else of the bridge is gone when this chunk has run.
--
-- arguments: jit (boolean): leave LuaJIT's compiler on

local jit_on = ...

local error, getmetatable, pcall, rawget, rawset, select, setmetatable, tostring, type =
    error, getmetatable, pcall, rawget, rawset, select, setmetatable, tostring, type
local byte, find, gsub, concat = string.byte, string.find, string.gsub, table.concat
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

-- Bytecode that was made to do harm crashes every Lua: source text only.
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
    if byte(chunk, 1) == 27 then return nil, "bytecode is not loaded, expected Lua source" end
    if mode ~= nil and not find(mode, "t", 1, true) then
        return nil, "attempt to load a text chunk (mode is '" .. tostring(mode) .. "')"
    end
    local f, problem
    if not takes_strings then
        f, problem = native_loadstring(chunk, name or chunk)
    elseif select("#", ...) > 0 then
        f, problem = native_load(chunk, name or chunk, "t", (...))
    else
        f, problem = native_load(chunk, name or chunk, "t")
    end
    -- LuaJIT's parser puts its ffi there when it meets a number such as 1LL.
    loaded.ffi = nil
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

os.exit = denied("os.exit", "return from the handler instead")
os.execute = denied("os.execute")
io.popen = denied("io.popen")
package.loadlib = nil
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

debug = { getinfo = getinfo, traceback = native_traceback }
package.loaded.debug = debug

if jit then
    if not jit_on then jit.off() end
    local status = jit.status
    local nothing = function() end
    jit = {
        version = jit.version, version_num = jit.version_num, os = jit.os, arch = jit.arch,
        status = function() return (status()) end, on = nothing, off = nothing, flush = nothing,
    }
    package.loaded.jit = jit
    package.loaded["jit.opt"], package.loaded["jit.util"], package.loaded["jit.profile"] = nil, nil, nil
    package.preload["jit.opt"], package.preload["jit.util"], package.preload["jit.profile"] = nil, nil, nil
    -- string.buffer hands out pointers into memory.
    package.preload.ffi, package.preload["string.buffer"] = nil, nil
end

return as_function
