-- What a script can reach, closed at the edges. Runs once in each new state, before anything of the script.
--
-- Scripts are trusted as PHP's are; this keeps an accident, or a hole in a script, from becoming the server's.
-- Closed: the bridge to Python, bytecode, native libraries, os.exit and other programs, the debug library but for
-- traceback and getinfo, and LuaJIT's ffi and compiler switches. Returns the one function that makes a Lua
-- function of a Python one; everything else of the bridge is gone when this chunk has run.
--
-- arguments: jit (boolean): leave LuaJIT's compiler on

local jit_on = ...

local error, getmetatable, select, tostring, type = error, getmetatable, select, tostring, type
local byte, find, gsub, concat = string.byte, string.find, string.gsub, table.concat
local native_load, native_loadstring = load, loadstring

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
local takes_strings = not native_loadstring or (jit ~= nil)

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
    if takes_strings then
        if select("#", ...) > 0 then return native_load(chunk, name or chunk, "t", (...)) end
        return native_load(chunk, name or chunk, "t")
    end
    return native_loadstring(chunk, name or chunk)
end

load = load_text
if native_loadstring then
    loadstring = function(chunk, name) return load_text(chunk, name) end
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
    return native_getinfo(first, what)
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
    package.preload.ffi = nil
    package.loaded.ffi = nil
end

return as_function
