-- What compiles text, for load and for files of Lua. Bytecode that was made to do harm crashes every Lua.
--
-- arguments: allowed: a table of true by the names of lua.allow
-- returns: load_text(native, chunk, name, mode, ...): what load does with text, and its name for that (load, loadstring)
--          compile(source, name, mode, ...): the same for the text of a file
--          takes_strings: load does, too

local allowed = ...

local find, gsub, sub, byte = string.find, string.gsub, string.sub, string.byte
local loaded = package.loaded
local takes_strings = pcall(load, "")
local native = loadstring or load
-- What LuaJIT 2.0 keeps nowhere else.
local hidden -- luacheck: ignore 231

local function load_text(load_native, chunk, name, mode, ...)
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
        f, problem = load_native(chunk, name)
    else
        f, problem = load_native(chunk, name, "bt", ...)
    end
    -- LuaJIT's parser puts its ffi there when it meets a number such as 1LL.
    if not allowed.ffi and loaded.ffi then
        -- LuaJIT needs it to the end, and nothing else keeps it.
        hidden, loaded.ffi = loaded.ffi, nil
    end
    if f then return f end
    return nil, problem
end

-- With the mode and the environment that load takes. A first line that begins with "#" (for a shell) and a byte order
-- mark are passed over.
local function compile(source, name, ...)
    if sub(source, 1, 3) == "\239\187\191" then source = sub(source, 4) end
    if sub(source, 1, 1) == "#" then source = gsub(source, "^[^\n]*", "", 1) end
    return load_text(native, source, "@" .. name, ...)
end

return load_text, compile, takes_strings
