-- The module that scripts get by require "greenfcgi.router": which function answers which method and path.
--
-- Patterns make a tree of segments. A path goes down in it: a segment that is written out comes before one with a name, and
-- that before the rest of the path; where a way ends without a function for the method, the next one is tried.
--
-- arguments: lua, server: see boot.lua

local lua, server = ...

local count = server.count
local setmetatable, type = lua.setmetatable, lua.type
local concat, find, format, gmatch, lower, match, sub =
    lua.concat, lua.find, lua.format, lua.gmatch, lua.lower, lua.match, lua.sub

local METHODS = { "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS" }
-- For any method.
local ANY = "*"

local function blame(problem) server.errors.blame("router: " .. problem) end

local function check_function(value, number, name)
    if type(value) == "function" then return end
    server.errors.blame(format("bad argument #%d to '%s' (function expected, got %s)", number, name, type(value)))
end

local function new_node() return { fixed = {}, named = {}, routes = {} } end

-- A slash at the end counts where the router is strict.
local function trimmed(path, is_strict)
    if not is_strict and #path > 1 and sub(path, -1) == "/" then return sub(path, 1, -2) end
    return path
end

-- The node of a segment with a name, for which the values have to match a pattern of Lua's, or may be any.
local function named_child(node, constraint)
    for i = 1, #node.named do
        if node.named[i].constraint == constraint then return node.named[i] end
    end
    local child = new_node()
    child.constraint = constraint
    -- Those that take any value come last.
    lua.rawset(node.named, #node.named + 1, child)
    local last = #node.named
    if constraint and last > 1 and not node.named[last - 1].constraint then
        node.named[last], node.named[last - 1] = node.named[last - 1], child
    end
    return child
end

-- The node of a pattern, made where it is missing, and the names in it.
local function place(root, pattern)
    local node, names, seen = root, {}, {}
    local function name_of(name)
        if not find(name, "^[%a_][%w_]*$") then blame("'" .. pattern .. "': '" .. name .. "' is no name of a parameter") end
        if seen[name] then blame("'" .. pattern .. "': the name '" .. name .. "' comes twice") end
        seen[name] = true
        names[#names + 1] = name
    end
    local at = #pattern > 1 and 2 or nil
    while at do
        if node.is_rest then blame("'" .. pattern .. "': nothing can follow '*" .. names[#names] .. "'") end
        local stop = find(pattern, "/", at, true)
        local segment = sub(pattern, at, (stop or 0) - 1)
        local first = sub(segment, 1, 1)
        if first == ":" then
            local name, constraint = match(segment, "^:([^()]*)%((.+)%)$")
            name_of(name or sub(segment, 2))
            if constraint then
                local ok = lua.pcall(find, "", constraint)
                if not ok then blame("'" .. pattern .. "': '" .. constraint .. "' is no pattern of Lua's") end
                constraint = "^" .. constraint .. "$"
            end
            node = named_child(node, constraint)
        elseif first == "*" then
            name_of(sub(segment, 2))
            node.rest = node.rest or new_node()
            node = node.rest
            node.is_rest = true
        else
            node.fixed[segment] = node.fixed[segment] or new_node()
            node = node.fixed[segment]
        end
        at = stop and stop + 1
    end
    return node, names
end

-- Defining

local methods = {}

-- What applies to the routes of a group: its own functions behind those of what it is a part of.
local function add_to_chain(chain, group, kind)
    if group.outer then add_to_chain(chain, group.outer, kind) end
    for i = 1, #group[kind] do chain[#chain + 1] = group[kind][i] end
    return chain
end

function methods.route(self, names, pattern, handler)
    if type(pattern) ~= "string" or sub(pattern, 1, 1) ~= "/" then
        blame("found the pattern '" .. lua.tostring(pattern) .. "', expected a path that begins with a slash")
    end
    check_function(handler, 3, "route")
    local root = self.root
    local whole = trimmed(self.prefix .. (pattern == "/" and self.prefix ~= "" and "" or pattern), root.is_strict)
    local node, parameters = place(root, whole)
    if type(names) == "string" then names = { names } end
    if type(names) ~= "table" then blame("found methods that are a " .. type(names) .. ", expected a text or a list") end
    for i = 1, #names do
        local name = names[i]
        if name ~= ANY and (type(name) ~= "string" or not find(name, "^[A-Z][A-Z%-]*$")) then
            blame("found the method '" .. lua.tostring(name) .. "', expected one in capitals, such as GET")
        end
        if node.routes[name] then
            blame(format("%s %s is there already: a route is defined once, outside of main",
                name == ANY and "any method of" or name, whole))
        end
        node.routes[name] = { handler = handler, names = parameters, group = self }
    end
    return self
end

for _, name in lua.ipairs(METHODS) do
    methods[lower(name)] = function(self, pattern, handler) return methods.route(self, name, pattern, handler) end
end

function methods.any(self, pattern, handler) return methods.route(self, ANY, pattern, handler) end

function methods.before(self, f)
    check_function(f, 1, "before")
    self.befores[#self.befores + 1] = f
    return self
end

function methods.after(self, f)
    check_function(f, 1, "after")
    self.afters[#self.afters + 1] = f
    return self
end

function methods.not_found(self, f)
    check_function(f, 1, "not_found")
    self.root.not_found = f
    return self
end

function methods.not_allowed(self, f)
    check_function(f, 1, "not_allowed")
    self.root.not_allowed = f
    return self
end

local meta = { __index = methods, __metatable = false }

function methods.group(self, prefix, define)
    if type(prefix) ~= "string" or not find(prefix, "^/.*[^/]$") then
        blame("found the prefix '" .. lua.tostring(prefix) .. "', expected a path such as /admin, without a slash at its end")
    end
    local group = setmetatable(
        { root = self.root, outer = self, prefix = self.prefix .. prefix, befores = {}, afters = {} }, meta)
    if define ~= nil then
        check_function(define, 2, "group")
        define(group)
    end
    return group
end

-- Answering

-- The route for a path from `at`, nil at its end; its values are left in `values`. Methods that the path has are added to
-- `allowed`.
local function look(node, path, at, method, values, allowed)
    count(1)
    local number = #values
    if at then
        local stop = find(path, "/", at, true)
        local segment, following = sub(path, at, (stop or 0) - 1), stop and stop + 1
        local child = node.fixed[segment]
        local found = child and look(child, path, following, method, values, allowed)
        if found then return found end
        for i = 1, segment ~= "" and #node.named or 0 do
            child = node.named[i]
            if not child.constraint or find(segment, child.constraint) then
                values[number + 1] = segment
                found = look(child, path, following, method, values, allowed)
                if found then return found end
                values[number + 1] = nil
            end
        end
        if not node.rest then return nil end
    elseif not node.rest or lua.next(node.routes) then
        local routes = node.routes
        local route = routes[method] or method == "HEAD" and routes.GET or routes[ANY]
        if not route then
            for name in lua.next, routes do allowed[name] = true end
        end
        return route
    end
    values[number + 1] = at and sub(path, at) or ""
    local found = look(node.rest, path, nil, method, values, allowed)
    if not found then values[number + 1] = nil end
    return found
end

-- The methods in the order of RFC 9110, those of scripts behind them; nil: none.
local function listed(allowed)
    if not lua.next(allowed) then return nil end
    if allowed.GET then allowed.HEAD = true end
    allowed.OPTIONS = true
    local names = {}
    for i = 1, #METHODS do
        local name = METHODS[i]
        if allowed[name] then
            names[#names + 1], allowed[name] = name, nil
        end
    end
    for name in lua.next, allowed do names[#names + 1] = name end
    return concat(names, ", ")
end

-- The path below the script: PATH_INFO, or where a web server sends all paths to one script, SCRIPT_NAME.
local function path_of(env)
    local info, name = env.PATH_INFO, env.SCRIPT_NAME or ""
    if info and info ~= "" then return info end
    local file = match(env.SCRIPT_FILENAME or "", "[^/]*$")
    if name == "" or file ~= "" and sub(name, -#file) == file then return "/" end
    return name
end

local function plain(con, status, text)
    con:status(status)
    con:header("Content-Type", "text/plain; charset=utf-8")
    con:puts(text, "\n")
end

local function unanswered(root, env, con, parameters, allowed)
    local names = listed(allowed)
    if not names then
        if root.not_found then return root.not_found(env, con, parameters) end
        return plain(con, 404, "not found")
    end
    con:header("Allow", names)
    if env.REQUEST_METHOD == "OPTIONS" then return con:status(204) end
    if root.not_allowed then return root.not_allowed(env, con, parameters) end
    plain(con, 405, "method not allowed; there are " .. names)
end

-- Returns false where one of these has answered, and nothing else is to run.
local function call_all(functions, ...)
    for i = 1, #functions do
        if functions[i](...) == false then return false end
    end
end

function methods.run(self, env, con, path)
    if type(env) ~= "table" or type(con) ~= "table" then blame("run: expected env and con") end
    local root, values, allowed = self.root, {}, {}
    path = trimmed(path or path_of(env), root.is_strict)
    local route
    if sub(path, 1, 1) == "/" then
        route = look(root, path, #path > 1 and 2 or nil, env.REQUEST_METHOD or "GET", values, allowed)
    end
    local group, parameters = route and route.group or root.group, {}
    if route then
        for i = 1, #route.names do parameters[route.names[i]] = values[i] end
    end
    if call_all(add_to_chain({}, group, "befores"), env, con, parameters) == false then return end
    if route then
        route.handler(env, con, parameters)
    else
        unanswered(root, env, con, parameters, allowed)
    end
    call_all(add_to_chain({}, group, "afters"), env, con, parameters)
end

local M = {}

function M.new(options)
    if options ~= nil and type(options) ~= "table" then
        server.errors.blame("bad argument #1 to 'new' (table expected, got " .. type(options) .. ")")
    end
    local root = new_node()
    root.is_strict = options and options.strict or false
    root.group = setmetatable({ root = root, prefix = "", befores = {}, afters = {} }, meta)
    return root.group
end

-- The path of a pattern with these values in it.
function M.path(pattern, values)
    if type(pattern) ~= "string" or type(values or {}) ~= "table" then blame("path: expected a pattern and a table") end
    local parts = {}
    for segment in gmatch(pattern, "[^/]+") do
        local part, kind, name = segment, match(segment, "^([:*])([%a_][%w_]*)")
        if name then
            local value = values and values[name]
            if type(value) ~= "string" and type(value) ~= "number" then
                blame("path: '" .. pattern .. "' needs a value for '" .. name .. "'")
            end
            local kept = kind == "*" and "[^%w%-._~/]" or "[^%w%-._~]"
            part = lua.gsub(value .. "", kept, function(c) return format("%%%02X", lua.byte(c)) end)
        end
        parts[#parts + 1] = part
    end
    return "/" .. concat(parts, "/") .. (#parts > 0 and sub(pattern, -1) == "/" and "/" or "")
end

return M
