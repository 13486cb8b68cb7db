-- load and loadstring, as this Lua has them but for bytecode: such that was made to do harm crashes every Lua.
--
-- arguments: allowed: a table of true by the names of lua.allow; faithful(native, name): as in limits.lua
-- returns: what load does with text, on every Lua

local allowed, faithful = ...

local error, pcall, type = error, pcall, type
local byte, concat, find, sub = string.byte, table.concat, string.find, string.sub
local loaded = package.loaded
local takes_strings = pcall(load, "")
local native_load, native_loadstring = faithful(load, "load"), loadstring and faithful(loadstring, "loadstring")

local function collect(reader)
    local parts, n = {}, 0
    while true do
        local part = reader()
        if part == nil or part == "" then return concat(parts) end
        if type(part) ~= "string" and type(part) ~= "number" then error("reader function must return a string", 0) end
        n = n + 1
        parts[n] = part
    end
end

local function load_text(native, chunk, name, mode, ...)
    local kind = byte(chunk, 1) == 27 and "binary" or "text"
    if kind == "binary" and not allowed.bytecode then return nil, "bytecode is not loaded, expected Lua source" end
    if mode ~= nil then
        mode = mode .. ""
        if not find(mode, sub(kind, 1, 1), 1, true) then
            return nil, "attempt to load a " .. kind .. " chunk (mode is '" .. mode .. "')"
        end
    end
    local f, problem
    if not takes_strings then
        f, problem = native(chunk, name)
    else
        f, problem = native(chunk, name, "bt", ...)
    end
    -- LuaJIT's parser puts its ffi there when it meets a number such as 1LL.
    if not allowed.ffi then loaded.ffi = nil end
    if f then return f end
    return nil, problem
end

local function is_text(value) return type(value) == "string" or type(value) == "number" end

function load(chunk, name, mode, ...)
    -- Lua tells what is wrong with these.
    if name ~= nil and not is_text(name) or mode ~= nil and not is_text(mode) then
        return native_load(chunk, name, mode, ...)
    end
    if type(chunk) == "function" then
        local ok, text = pcall(collect, chunk)
        if not ok then return nil, text end
        return load_text(native_loadstring or native_load, text, name or "=(load)", takes_strings and mode or nil, ...)
    end
    if not takes_strings then
        error("bad argument #1 to 'load' (function expected, got " .. type(chunk) .. ")", 2)
    elseif not is_text(chunk) then
        return native_load(chunk)
    end
    chunk = chunk .. ""
    return load_text(native_load, chunk, name or chunk, mode, ...)
end

if native_loadstring and takes_strings then
    loadstring = load
elseif native_loadstring then
    function loadstring(chunk, name)
        if not is_text(chunk) or name ~= nil and not is_text(name) then return native_loadstring(chunk, name) end
        chunk = chunk .. ""
        return load_text(native_loadstring, chunk, name or chunk)
    end
end

return function(text, name, mode, ...)
    return load_text(native_loadstring or native_load, text, name, mode, ...)
end
