-- The module that scripts get by require "greenfcgi.template": pages with Lua in them, in etlua's syntax.
--
-- A template becomes a chunk of Lua that has the template's own lines: each statement and each expression stands on the line
-- where the template has it, and what is text is written before, with the ends of its lines behind. So an error names the
-- right line, and the template's file, since the chunk has that name. What is written stands in a block, so that a statement
-- before it has to be whole.
--
-- arguments: lua, server: see boot.lua

local lua, server = ...

local markup = lua.rawget(server, "markup") or server.opening("markup")
local count = server.count
local byte, concat, error, find, format, gsub, match, sub =
    lua.byte, lua.concat, lua.error, lua.find, lua.format, lua.gsub, lua.match, lua.sub
local next, rawget, setmetatable, type = lua.next, lua.rawget, lua.setmetatable, lua.type
local getfenv, setfenv = server.debug.getfenv, server.debug.setfenv
local globals = getfenv and getfenv(function() end) or _ENV

-- Templates that render each other, and layouts of layouts.
local MAX_DEPTH = 50
local EXTENSIONS = { "", ".html", ".etlua" }
-- What a chunk begins with. Scripts find these names in their errors.
local PARAMETERS = setfenv and "local __w, __r, __p = ... " or "local _ENV, __w, __r, __p = ... "

-- Translation

local function line_of(text, at)
    local line = 1
    for _ in lua.gmatch(gsub(sub(text, 1, at - 1), "\r\n?", "\n"), "\n") do
        count(0.2)
        line = line + 1
    end
    return line
end

-- Where a text in quotes ends; nil where it does not on its line.
local function end_of_quoted(text, at)
    local quote = byte(text, at)
    while true do
        at = find(text, "[\"'\\\r\n]", at + 1)
        if not at then return nil end
        local c = byte(text, at)
        if c == quote then return at end
        if c == 10 or c == 13 then return nil end
        if c == 92 then at = at + 1 end
    end
end

-- Where "%>" ends the code that begins at this place, and where the code itself ends: what stands in a text or in square
-- brackets is none, and a comment up to there is left out. Nil where there is none.
local function end_of_code(text, at)
    while true do
        count(0.5)
        at = find(text, "[%%\"'%-%[]", at)
        if not at then return nil end
        local c, following = byte(text, at, at + 1)
        if c == 37 and following == 62 then return at, at - 1 end
        local level = c == 91 and match(text, "^%[(=*)%[", at) or c == 45 and match(text, "^%-%-%[(=*)%[", at)
        if level then
            local _, last = find(text, "]" .. level .. "]", at, true)
            if not last then return nil end
            at = last
        elseif c == 45 and following == 45 then
            local stop = find(text, "[\r\n%%]", at)
            while stop and byte(text, stop) == 37 and byte(text, stop + 1) ~= 62 do stop = find(text, "[\r\n%%]", stop + 1) end
            if not stop then return nil end
            if byte(text, stop) == 37 then return stop, at - 1 end
            at = stop
        elseif c == 34 or c == 39 then
            at = end_of_quoted(text, at) or at
        end
        at = at + 1
    end
end

local function quoted(text)
    return '"' .. gsub(text, '[%c"\\]', function(c)
        count(0.2)
        return format("\\%03d", byte(c))
    end) .. '"'
end

-- The ends of lines of a text.
local function line_ends(text)
    if not find(text, "[\r\n]") then return "" end
    return (gsub(text, "[^\r\n]+", " "))
end

-- The source of a template's chunk; or nil, what is wrong, and the line.
local function translate(text)
    local code, n, at = { PARAMETERS }, 1, 1
    local function add(...)
        for i = 1, lua.select("#", ...) do code[n + i] = lua.select(i, ...) end
        n = n + lua.select("#", ...)
    end
    while true do
        count(2)
        local open = find(text, "<%", at, true)
        local literal = sub(text, at, open and open - 1 or -1)
        if not open then
            if literal ~= "" then add("do __w(__p, ", quoted(literal), ") end ", line_ends(literal)) end
            return concat(code, "", 1, n)
        end
        local start, sign = open + 2, byte(text, open + 2)
        if sign == 61 or sign == 45 then start = start + 1 else sign = nil end
        local close, last = end_of_code(text, start)
        if not close then return nil, "'<%' is not closed: '%>' expected", line_of(text, open) end
        at = close + 2
        local skipped = ""
        if close > start and byte(text, close - 1) == 45 then
            -- "-%>" takes the end of the line with it.
            if last == close - 1 then last = close - 2 end
            skipped = match(text, "^\r?\n", at) or ""
            at = at + #skipped
        end
        local statement = sub(text, start, last)
        local rest = line_ends(sub(text, last + 1, close - 1)) .. skipped
        if sign then
            -- Lua gives the last argument the line of the parenthesis behind it.
            local bare = match(statement, "^(.-)%s*$")
            rest = line_ends(sub(statement, #bare + 1)) .. rest
            add(line_ends(literal), sign == 61 and "do __w(__p, " or "do __r(__p, ", quoted(literal), ",", bare, ") end ", rest)
        else
            if literal ~= "" then add("do __w(__p, ", quoted(literal), ") end ", line_ends(literal)) end
            add(statement, " ", rest)
        end
    end
end

-- A template as a function of its environment and a page. Raises an error where it is no template.
local function compiled(text, name, chunk_name)
    local source, problem, line = translate(text)
    if not source then error(format("%s:%d: %s", name, line, problem), 0) end
    local chunk
    chunk, problem = server.texts.load_text(lua.loadstring or lua.load, false, source, chunk_name, nil)
    if not chunk then error(problem, 0) end
    if not setfenv then
        return function(env, page) return chunk(env, markup.write, markup.write_raw, page) end
    end
    -- A function for each time, since each has an environment of its own.
    source = "return function(" .. sub(PARAMETERS, 7, -8) .. ") " .. sub(source, #PARAMETERS + 1) .. "\nend"
    chunk, problem = server.texts.load_text(lua.loadstring, false, source, chunk_name, nil)
    if not chunk then error(problem, 0) end
    return function(env, page)
        setfenv(chunk, env)
        local run = chunk()
        return run(markup.write, markup.write_raw, page)
    end
end

-- Rendering

local METATABLE = { __index = globals, __metatable = false }

-- What a template sees as its globals: its data, then those of `outer`, the template that has rendered it, or of the script.
local function environment(data, outer)
    local env = {}
    for name, value in next, data do
        count(0.2)
        env[name] = value
    end
    local meta = lua.metatable_of(data)
    local inherited = outer or globals
    if type(meta) == "table" and rawget(meta, "__index") ~= nil then
        return setmetatable(env, { __metatable = false, __index = function(_, name)
            local value = data[name]
            if value == nil then return inherited[name] end
            return value
        end })
    end
    return setmetatable(env, outer and { __index = outer, __metatable = false } or METATABLE)
end

local function check_data(name, position, data)
    if data ~= nil and type(data) ~= "table" then
        server.errors.blame(format("bad argument #%d to '%s' (table expected, got %s)", position, name, type(data)))
    end
    return data or {}
end

-- `views` finds the templates that this one names; `depth` is how many have been rendered around it.
local function render(view, data, views, outer, depth)
    if depth > MAX_DEPTH then error(format("templates that render each other, more than %d deep", MAX_DEPTH), 0) end
    local env = environment(data, outer)
    local layout, fields
    -- What the data has by these names comes first.
    if rawget(env, "render") == nil then
        env.render = function(name, more)
            return markup.raw(render(views.find(name, "render"), check_data("render", 2, more), views, env, depth + 1))
        end
    end
    if rawget(env, "layout") == nil then
        env.layout = function(name, more)
            layout, fields = views.find(name, "layout"), check_data("layout", 2, more)
        end
    end
    local page = markup.begin()
    view(env, page)
    local text = markup.finish(page)
    if not layout then return text end
    -- The layout sees what the page has set.
    local around = { content = markup.raw(text) }
    for name, value in next, fields do around[name] = value end
    env.render, env.layout = nil, nil
    return render(layout, around, views, env, depth + 1)
end

-- The templates of a folder, each compiled once.
local function folder_of(folder)
    local known, views = {}, {}

    local function look_for(name)
        if type(name) ~= "string" then
            server.errors.blame("no name of a template: string expected, got " .. (name == nil and "no value" or type(name)))
        end
        if find(name, "[%c\\]") or find("/" .. name .. "/", "/%.") or find("/" .. name .. "/", "//", 1, true) then
            server.errors.blame(format("no name of a template: found %q, expected one of a file in %s that is not hidden", name,
                folder))
        end
        local tried = {}
        for i, extension in lua.ipairs(EXTENSIONS) do
            if extension ~= "" or find(name, "%.[^/]*$") then
                local path = server.paths(folder .. "/" .. name .. extension)
                local text, reason = server.ask("source", path, false)
                if text then
                    if sub(text, 1, 3) == "\239\187\191" then text = sub(text, 4) end
                    return compiled(text, path, "@" .. path)
                end
                tried[#tried + 1] = path .. ": " .. reason
            end
            count(i)
        end
        server.errors.blame("template '" .. name .. "' not found:\n\t" .. concat(tried, "\n\t"))
    end

    function views.find(name)
        local view = known[name]
        if not view then
            view = look_for(name)
            known[name] = view
        end
        return view
    end
    return views
end

local function engine(folder)
    local views = folder_of(folder)
    local M = {}

    -- The page that a template of the folder makes of a table of values.
    function M.render(name, data)
        data = check_data("render", 2, data)
        return render(views.find(name), data, views, nil, 0)
    end

    -- The same as a function of the values: a template that is broken, or not there, is an error now.
    function M.load(name)
        local view = views.find(name)
        return function(data) return render(view, check_data("?", 1, data), views, nil, 0) end
    end

    -- A function of a text: of the values to the page. `name` is what errors call it.
    function M.compile(text, name)
        if type(text) ~= "string" then
            server.errors.blame("bad argument #1 to 'compile' (string expected, got "
                .. (text == nil and "no value" or type(text)) .. ")")
        end
        if name ~= nil and type(name) ~= "string" then
            server.errors.blame("bad argument #2 to 'compile' (string expected, got " .. type(name) .. ")")
        end
        name = name or "template"
        local view = compiled(text, name, "=" .. name)
        return function(data) return render(view, check_data("?", 1, data), views, nil, 0) end
    end
    return M
end

local M = engine("views")

-- The same for another folder, found as io.open finds files.
function M.new(folder)
    if type(folder) ~= "string" then
        server.errors.blame("bad argument #1 to 'new' (string expected, got "
            .. (folder == nil and "no value" or type(folder)) .. ")")
    end
    return engine(folder)
end

return M
