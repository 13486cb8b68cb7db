-- What the developer mode wants to know: where an error happened, with the variables of each function on the way; and
-- which globals a script writes by the way. In production, no state has this part.
--
-- arguments: library: the debug library, whole
--            written(): what the script has written to its page and not sent
--            hint(name, place): a global of this name was written at this place ("file:line"), which no init declared
-- returns: look(level): remember the functions that led to what called the function at that level
--          report(): what was remembered last, as JSON, and what the script had written; nothing is remembered then
--          watch(): from now on, new globals are told of

local library, written, hint = ...

local getinfo, getlocal = library.getinfo, library.getlocal
local getmetatable, next, pcall, rawset, setmetatable, tostring, type =
    getmetatable, next, pcall, rawset, setmetatable, tostring, type
local byte, concat, find, format, gsub, sub = string.byte, table.concat, string.find, string.format, string.gsub, string.sub
local globals, loaded = _G, package.loaded

local MOST_FRAMES, MOST_LOCALS, MOST_ITEMS, LONGEST, DEEPEST = 50, 60, 20, 300, 3

-- JSON

local function quoted(text)
    return '"' .. gsub(text, '[%c"\\\127]', function(c) return format("\\u%04x", byte(c)) end) .. '"'
end

-- A value as Lua would write it, shortened; no metamethod is called.
local function shown(value, depth)
    local kind = type(value)
    if kind == "string" then
        local text = #value > LONGEST and sub(value, 1, LONGEST) .. "..." or value
        return '"' .. gsub(gsub(text, '[\\"]', "\\%0"), "\n", "\\n") .. '"' .. (#value > LONGEST and " (" .. #value .. " bytes)" or "")
    elseif kind == "table" then
        if next(value) == nil then return "{}" end
        if depth == 0 then return "{...}" end
        local parts, n = {}, 0
        for key, item in next, value do
            n = n + 1
            if n > MOST_ITEMS then
                parts[n] = "..."
                break
            end
            local name
            if type(key) == "string" and find(key, "^[%a_][%w_]*$") then
                name = key .. " = "
            elseif key == n then
                name = ""
            else
                name = "[" .. shown(key, 0) .. "] = "
            end
            parts[n] = name .. shown(item, depth - 1)
        end
        return "{ " .. concat(parts, ", ") .. " }"
    elseif kind == "function" then
        local info = getinfo(value, "S")
        return info.what == "C" and "function (built in)" or "function (" .. info.short_src .. ":" .. info.linedefined .. ")"
    elseif kind == "number" or kind == "boolean" or kind == "nil" then
        return tostring(value)
    end
    return kind
end

local function locals(level)
    local parts = {}
    for i = 1, MOST_LOCALS do
        local name, value = getlocal(level + 1, i)
        if not name then break end
        -- The others are the interpreter's own.
        if sub(name, 1, 1) ~= "(" then
            parts[#parts + 1] = '{"name":' .. quoted(name) .. ',"value":' .. quoted(shown(value, DEEPEST)) .. "}"
        end
    end
    return "[" .. concat(parts, ",") .. "]"
end

local function is_own(info)
    return info.source == "=greenfcgi" or info.source == "=?" or info.source == "@greenfcgi"
        or info.source == "=[C]"
end

-- Remembered

local frames, page = nil, ""

local function global_name(f)
    for name, value in next, globals do
        if value == f and type(name) == "string" then return name end
    end
end

local function collect(level)
    local parts = {}
    while #parts < MOST_FRAMES do
        local info = getinfo(level + 1, "nSlf")
        if not info then break end
        if info.what ~= "C" and not is_own(info) then
            local name = info.name or (info.what == "main" and "the file itself") or global_name(info.func)
                or "a function of line " .. info.linedefined
            parts[#parts + 1] = '{"file":' .. quoted(gsub(info.source, "^[@=]", "")) .. ',"line":' .. info.currentline
                .. ',"function":' .. quoted(name) .. ',"locals":' .. locals(level + 1) .. "}"
        end
        level = level + 1
    end
    return "[" .. concat(parts, ",") .. "]"
end

local function look(level)
    local ok, found = pcall(collect, level + 2)
    frames = ok and found or nil
    ok, found = pcall(written)
    page = ok and found or ""
end

local function report()
    local told, text = frames or "[]", page
    frames, page = nil, ""
    return told, text
end

-- Globals

-- The place that runs the assignment: the first function of a file, from the one that called __newindex.
local function place()
    for level = 3, 10 do
        local info = getinfo(level, "Sl")
        if not info then return nil end
        if info.what ~= "C" then
            return not is_own(info) and gsub(info.source, "^[@=]", "") .. ":" .. info.currentline or nil
        end
    end
end

local function watch()
    -- A script with rules of its own for globals has no need of others.
    if getmetatable(globals) ~= nil then return end
    setmetatable(globals, { __newindex = function(_, name, value)
        rawset(globals, name, value)
        -- What module() makes is meant to be one.
        if type(value) == "table" and loaded[name] == value then return end
        local where = type(name) == "string" and place()
        if where then hint(name, where) end
    end })
end

return look, report, watch
