-- What the developer mode wants to know: where an error happened, with the variables of each function on the way; and
-- which globals a script creates by accident. In production, no state has this part.
--
-- The server is called: hint(name, place): a global that no init declares was written, at this place ("file:line")
--
-- arguments: lua, server: see boot.lua
-- returns: observe(create, resume): what takes the place of these two functions of coroutines
--          follow(): from now on, files that the script opens are noted
--          capture_frames(level, problem): remember the functions that led to what called the function at that level, which
--          has raised the problem, and what the script has written; where the problem was raised in a coroutine before,
--          the functions in there come first
--          forget(): a request begins, and the coroutines of the last one are nobody's business
--          report(of_globals): what was remembered last, as JSON, and what the script had written; nothing is remembered then.
--          With of_globals, what globals.lua reports of the request that has ended
--          watch_globals(): from now on, new globals are reported, and globals.lua watches what requests do with them

local lua, server = ...

local getinfo, getlocal = lua.getinfo, server.debug.getlocal
local error, getmetatable, next, pcall, rawequal, rawset, setmetatable, type, xpcall =
    error, getmetatable, next, pcall, rawequal, rawset, setmetatable, type, xpcall
local byte, concat, find, format, gsub, sub = string.byte, table.concat, string.find, string.format, string.gsub, string.sub
local globals, loaded = _G, package.loaded

local MAX_FIRST, MAX_LAST, MAX_LOCALS, MAX_FAILURES, MAX_READ = 40, 10, 60, 100, 200

-- JSON

local function quoted(text)
    return '"' .. gsub(text, '[%c"\\\127]', function(c) return format("\\u%04x", byte(c)) end) .. '"'
end

-- Functions of a coroutine are reached by its name, those of the running one by none: then a level is counted from here.
local function info_of(thread, level, what)
    -- No tail calls: LuaJIT has no level for who makes one.
    return thread and (getinfo(thread, level, what)) or not thread and (getinfo(level + 1, what)) or nil
end

local function locals(thread, level)
    local parts = {}
    for i = 1, MAX_LOCALS do
        local name, value
        if thread then
            name, value = getlocal(thread, level, i)
        else
            name, value = getlocal(level + 1, i)
        end
        if not name then break end
        -- The others are the interpreter's own, or those of templates (see template.lua).
        if sub(name, 1, 1) ~= "(" and not find(name, "^__[wrp]$") then
            parts[#parts + 1] = '{"name":' .. quoted(name) .. ',"value":' .. quoted(server.show(value)) .. "}"
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
-- The functions in the coroutines that have ended in an error last, and that error; how many have, for this request.
local inner, inner_problem, failures = nil, nil, 0

local function global_name(f)
    for name, value in next, globals do
        if value == f and type(name) == "string" then return name end
    end
end

-- How many functions there are from a level on.
local function depth(thread, level)
    local first = level
    local step = 1
    while info_of(thread, thread and level + step or level + step + 1, "") do
        level, step = level + step, 2 * step
    end
    while step > 1 do
        step = step / 2
        if info_of(thread, thread and level + step or level + step + 1, "") then level = level + step end
    end
    return level - first + 1
end

-- The functions from a level on, as objects of JSON, at the end of `parts`: the first and the last ones.
local function collect(parts, thread, level)
    local left, room = depth(thread, thread and level or level + 1), MAX_FIRST
    while left > 0 and room > 0 do
        local here = thread and level or level + 1
        local info = info_of(thread, here, "nSlf")
        if info.what ~= "C" and info.what ~= "tail" and not is_own(info) then
            local name = info.name or (info.what == "main" and "the file itself") or global_name(info.func)
                or "a function of line " .. info.linedefined
            parts[#parts + 1] = '{"source":' .. quoted(sub(info.source, 1, 1000)) .. ',"line":' .. info.currentline
                .. ',"function":' .. quoted(name) .. ',"locals":' .. locals(thread, here) .. "}"
            room = room - 1
        end
        level, left = level + 1, left - 1
        if room == 0 and left > MAX_LAST then
            parts[#parts + 1] = '{"left_out":' .. format("%d", left - MAX_LAST) .. "}"
            level, left, room = level + left - MAX_LAST, MAX_LAST, MAX_LAST
        elseif room == 0 then
            room = left
        end
    end
    return parts
end

-- An error that was raised again may have got a place in front.
local function is_same(problem)
    if rawequal(problem, inner_problem) then return true end
    return type(problem) == "string" and type(inner_problem) == "string"
        and #inner_problem > 0 and sub(problem, -#inner_problem) == inner_problem
end

local function failed(thread, problem)
    -- What ended before is what is of interest.
    if type(problem) == "string" and find(problem, "^cannot resume ") or problem == "not enough memory" then return end
    failures = failures + 1
    -- Where so many are caught, errors are no news.
    if failures > MAX_FAILURES then return end
    local before = inner and is_same(problem) and inner or {}
    local ok, found = pcall(collect, before, thread, thread and 0 or 4)
    inner, inner_problem = ok and found or nil, problem
end

-- What watches globals, where they may be watched.
local watched

local function forget_coroutines()
    inner, inner_problem, failures = nil, nil, 0
end

local function forget()
    if watched then watched.begin() end
    forget_coroutines()
end

local function observe(create, resume)
    if jit then
        -- A coroutine that has ended has forgotten where that was; but an xpcall in it is no border for yields here.
        local function handle(problem)
            failed(nil, problem)
            return problem
        end
        local function finish(ok, ...)
            if ok then return ... end
            error((...), 0)
        end
        return function(body)
            if type(body) ~= "function" then return create(body) end
            return create(function(...) return finish(xpcall(body, handle, ...)) end)
        end, resume
    end
    local function note(thread, ok, problem, ...)
        if not ok then failed(thread, problem) end
        return ok, problem, ...
    end
    return create, function(...) return note((...), resume(...)) end
end

-- What has been written: before response.lua is there, a page of developers is worth compiling it.
local function written()
    local swap = server.response.swap
    local pieces, number, bytes, parts, last = swap(nil, 0)
    swap(pieces, number, bytes, parts, last)
    if not pieces then return "" end
    return concat(parts or {}, "", 1, parts and last or 0) .. concat(pieces, "", 1, number)
end

local function capture_frames(level, problem)
    local before = inner and is_same(problem) and inner or {}
    local ok, found = pcall(collect, before, nil, level + 2)
    frames = ok and "[" .. concat(found, ",") .. "]" or nil
    ok, found = pcall(written)
    page = ok and found or ""
    forget_coroutines()
end

-- Files that the script has opened: templates, perhaps.
local read, count = {}, 0

local function noting(open)
    return function(name, ...)
        if type(name) == "string" and count < MAX_READ and not read[name] then
            read[name], count = true, count + 1
        end
        return open(name, ...)
    end
end

local function follow() io.open, io.lines = noting(io.open), noting(io.lines) end

local function report(of_globals)
    if of_globals then return watched and watched.report() or "" end
    local names = {}
    for name in next, read do names[#names + 1] = quoted(name) end
    local seen, text = '{"frames":' .. (frames or "[]") .. ',"read":[' .. concat(names, ",") .. "]}", page
    frames, page = nil, ""
    return seen, text
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

local function watch_globals()
    -- A script with rules of its own for globals has no need of others.
    if getmetatable(globals) ~= nil then return end
    watched = server.globals
    watched.watch(globals)
    setmetatable(globals, { __index = function(_, name) watched.missed(name) end, __newindex = function(_, name, value)
        rawset(globals, name, value)
        -- What module() makes is meant to be one.
        if type(value) == "table" and loaded[name] == value then return end
        watched.created(name, value)
        local where = type(name) == "string" and place()
        if where then server.call("hint", name, where) end
    end })
end

return observe, follow, capture_frames, forget, report, watch_globals
