-- load and loadstring, as this Lua has them but for bytecode. Compiled when the first of them is called.
--
-- arguments: lua, natives: functions of Lua by their names (see boot.lua and standins.lua); errors(): those of errors.lua
--            pcall: as scripts have it; load_text, takes_strings: as in load.lua
-- returns: load and loadstring in a table

local lua, natives, errors, pcall, load_text, takes_strings = ...

local error, type, concat = lua.error, lua.type, lua.concat
local native_load = errors().faithful(natives.load, "load")
local native_loadstring = natives.loadstring and errors().faithful(natives.loadstring, "loadstring")

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
        local ok, text = pcall(collect, chunk)
        if not ok then return nil, text end
        return load_text(native_loadstring or native_load, text, name or "=(load)", takes_strings and mode or nil, ...)
    end
    if not takes_strings then
        errors().blame("bad argument #1 to 'load' (function expected, got " .. type(chunk) .. ")")
    elseif not is_text(chunk) then
        return native_load(chunk)
    end
    chunk = chunk .. ""
    return load_text(native_load, chunk, name or chunk, mode, ...)
end

-- Of 5.1; elsewhere it is load.
local function loadstring(chunk, name)
    if not is_text(chunk) or name ~= nil and not is_text(name) then return native_loadstring(chunk, name) end
    chunk = chunk .. ""
    return load_text(native_loadstring, chunk, name or chunk)
end

return { load = load, loadstring = loadstring }
