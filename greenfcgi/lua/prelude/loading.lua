-- load and loadstring, as this Lua has them but for bytecode of others. Compiled when the first of them is called.
--
-- arguments: lua, server: see boot.lua
-- returns: load and loadstring in a table

local lua, server = ...

local error, type, concat = lua.error, lua.type, lua.concat
local native_load = server.errors.faithful(lua.load, "load")
local native_loadstring = lua.loadstring and server.errors.faithful(lua.loadstring, "loadstring")

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

local function is_text(value) return type(value) == "string" or type(value) == "number" end

local function load(chunk, name, mode, ...)
    -- Lua itself says what is wrong with these.
    if name ~= nil and not is_text(name) or mode ~= nil and not is_text(mode) then
        return native_load(chunk, name, mode, ...)
    end
    if type(chunk) == "function" then
        local ok, text = server.pcall(collect, chunk)
        if not ok then return nil, text end
        mode = server.takes_strings and mode or nil
        return server.texts.load_text(native_loadstring or native_load, false, text, name or "=(load)", mode, ...)
    end
    if not server.takes_strings then
        server.errors.blame("bad argument #1 to 'load' (function expected, got " .. type(chunk) .. ")")
    elseif not is_text(chunk) then
        return native_load(chunk)
    end
    chunk = chunk .. ""
    return server.texts.load_text(native_load, false, chunk, name or chunk, mode, ...)
end

-- Of 5.1; elsewhere it is load.
local function loadstring(chunk, name)
    if not is_text(chunk) or name ~= nil and not is_text(name) then return native_loadstring(chunk, name) end
    chunk = chunk .. ""
    return server.texts.load_text(native_loadstring, false, chunk, name or chunk)
end

return { load = load, loadstring = loadstring }
