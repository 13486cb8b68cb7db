-- What a script can reach, closed at the edges. Runs once in each new state, before anything of the script.
--
-- Scripts are trusted as PHP's are; this keeps an accident, or a hole in a script, from becoming the server's.
-- Closed: the bridge to Python, native libraries, os.exit and other programs, what of the debug library reaches beyond the
-- script's own functions, and LuaJIT's ffi and compiler switches; what lua.allow names is left as it is. Returns the one
-- function that makes a Lua function of a Python one; everything else of the bridge is gone when this chunk has run.
--
-- arguments: lua, settings: see boot.lua; allowed: a table of true by the names of lua.allow

local lua, settings, allowed = ...

local function denied(what, instead)
    local text = what .. " is not available to scripts" .. (instead and ": " .. instead or "")
    return function() lua.error(text, 2) end
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

os.exit = denied("os.exit", "return from the handler instead")
os.execute = denied("os.execute", 'unless lua.allow has "os.execute"')
io.popen = denied("io.popen", 'unless lua.allow has "io.popen"')
if not allowed["package.loadlib"] then package.loadlib, lua.loadlib = nil, nil end
os.setlocale = function(locale)
    -- The locale belongs to the whole process.
    if locale ~= nil and locale ~= "" and locale ~= "C" then return nil end
    return "C"
end

-- What else scripts have of it is in debugging.lua.
if not allowed.debug then
    debug = { traceback = debug.traceback }
    package.loaded.debug = debug
end

if settings.interprets then
    -- For little code: an area is as large as a page.
    jit.opt.start("sizemcode=4", "maxmcode=32")
    -- These are written in Lua, and loop over what scripts choose.
    for _, name in lua.ipairs { "foreach", "foreachi", "getn", "move", "remove" } do
        if table[name] then lua.pcall(jit.off, table[name]) end
    end
elseif jit and not settings.jit then
    jit.off()
end

if jit and not allowed.jit then
    local status, nothing = settings.jit, function() end
    jit = {
        version = jit.version, version_num = jit.version_num, os = jit.os, arch = jit.arch,
        status = function() return status end, on = nothing, off = nothing, flush = nothing,
    }
    package.loaded.jit = jit
    package.loaded["jit.opt"], package.loaded["jit.util"], package.loaded["jit.profile"] = nil, nil, nil
    package.preload["jit.opt"], package.preload["jit.util"], package.preload["jit.profile"] = nil, nil, nil
end

if jit then
    -- For what the server has compiled; and whether it may be.
    lua.rawequal, lua["string.buffer"] = rawequal, package.preload["string.buffer"]
    lua.jit = settings.interprets or settings.jit
end

-- string.buffer hands out pointers into memory, and LuaJIT loads its ffi for the first of them.
if allowed["string.buffer"] and not allowed.ffi then lua.load("return 1LL") end
if not allowed["string.buffer"] then package.preload["string.buffer"] = nil end
if not allowed.ffi then package.preload.ffi = nil end

return as_function
