-- What compiles text, for load and for files of Lua. Bytecode that was made to do harm crashes every Lua. Forgotten when the
-- script has been loaded, and compiled again when the script compiles something.
--
-- What string.dump has given back in this state is loaded: the server, which keeps it, is asked.
--
-- returns: a table: load_text(native, is_file, chunk, name, mode, ...): what load does with text, and its name for that
--          (load, loadstring); compile(source, name, mode, ...): the same for the text of a file

local lua, server = ...

local loaded = server.loaded

local function load_text(native, is_file, chunk, name, mode, ...)
    local kind = lua.byte(chunk, 1) == 27 and "binary" or "text"
    if kind == "binary" and not server.allowed.bytecode and (is_file or not server.call("is_dump", chunk)) then
        return nil, 'bytecode is not loaded, expected Lua source: lua.allow does not have "bytecode"'
    end
    if mode ~= nil then
        mode = mode .. ""
        if not lua.find(mode, lua.sub(kind, 1, 1), 1, true) then
            return nil, "attempt to load a " .. kind .. " chunk (mode is '" .. mode .. "')"
        end
    end
    local f, problem
    if not server.takes_strings then
        f, problem = native(chunk, name)
    else
        f, problem = native(chunk, name, "bt", ...)
    end
    -- LuaJIT's parser puts its ffi there when it meets a number such as 1LL.
    if loaded.ffi and not server.allowed.ffi then
        -- LuaJIT 2.0 needs it to the end, and nothing else keeps it.
        server.ffi, loaded.ffi = loaded.ffi, nil
    end
    if f then return lua.interpret and lua.interpret(f) or f end
    return nil, problem
end
-- With the mode and the environment that load takes. A first line that begins with "#" (for a shell) and a byte order
-- mark are passed over.
local function compile(source, name, ...)
    if lua.sub(source, 1, 3) == "\239\187\191" then source = lua.sub(source, 4) end
    if lua.sub(source, 1, 1) == "#" then source = lua.gsub(source, "^[^\n]*", "", 1) end
    return load_text(lua.loadstring or lua.load, true, source, "@" .. name, ...)
end

return { load_text = load_text, compile = compile }
