-- Sessions: require "greenfcgi.session".
--
-- arguments: lua, server: see boot.lua
--            functions of the server (see session.py): seal(key_file, name, text, encrypts), unseal(key_file, name, text): nil
--            where it is none; both: nil and a message where there is no key. new_id(), hashed(id), variable(name),
--            encode(data), decode(text), mask(secret), is_token(token, secret), is_https(): 1 or 0; now(): seconds since 1970
-- server gets: session_functions, for session_stores.lua
--
-- A session is kept as "CREATED SEEN " and the text of a table: d: its fields, c: the secret of its tokens, f: what is read
-- once. It is saved when the headers are sent, and at the end of the request, where it has changed.

local lua, server, functions = ...

local find, floor, format, match, next, rawset, setmetatable, sub, tonumber, tostring, type =
    lua.find, lua.floor, lua.format, lua.match, lua.next, lua.rawset, lua.setmetatable, lua.sub, lua.tonumber, lua.tostring,
    lua.type

server.session_functions = functions
local cookies = server.opening("greenfcgi.cookie")
local cookie_line = server.cookie_line
local encode, decode = server.opening("stored")

-- Seconds without a request, and since its begin, after which a session is over.
local IDLE, ABSOLUTE = 7200, 604800
-- A session that is only read is marked as seen after this part of `idle`.
local REFRESH = 20
local MAX_TIME = 10 * 365 * 86400

local function blame(...) server.errors.blame(format(...)) end

-- Options

local function is_text(value) return type(value) == "string" and value ~= "" and not find(value, "%c") end
local function is_flag(value) return type(value) == "boolean" end
local function is_time(value) return type(value) == "number" and value >= 1 and value <= MAX_TIME end

local OPTIONS = {
    name = { is_text, "the name of a cookie" },
    store = { function(v) return v == "cookie" or v == "shared" or v == "sql" end, '"cookie", "shared" or "sql"' },
    dictionary = { is_text, "the name of a dictionary of [shared]" },
    url = { is_text, "the URL of a database" },
    idle = { is_time, "seconds from 1 up" },
    absolute = { is_time, "seconds from 1 up" },
    encrypt = { is_flag, "true or false" },
    key_file = { is_text, "the name of a file" },
    max_age = { is_time, "seconds from 1 up" },
    path = { is_text, "a path" },
    domain = { is_text, "a name of a host" },
    samesite = { is_text, '"Lax", "Strict" or "None"' },
    secure = { is_flag, "true or false" },
    httponly = { is_flag, "true or false" },
    partitioned = { is_flag, "true or false" },
}
local OF_COOKIE = { "max_age", "path", "domain", "samesite", "secure", "httponly", "partitioned" }

local function checked(options)
    local found = {}
    for name, value in next, options do
        local rule = OPTIONS[name]
        if not rule then
            blame("unknown option '%s'; known are absolute, dictionary, domain, encrypt, httponly, idle, key_file, max_age, "
                .. "name, partitioned, path, samesite, secure, store, url", tostring(name))
        elseif not rule[1](value) then
            blame("bad option '%s' (found %s, expected %s)", name, tostring(value), rule[2])
        end
        found[name] = value
    end
    found.name, found.store = found.name or "session", found.store or "cookie"
    found.idle, found.absolute = found.idle or IDLE, found.absolute or ABSOLUTE
    found.key_file = found.key_file or server.cookie_key_file()
    if found.store == "sql" and not found.url then blame("option 'url' is missing: store = \"sql\" needs it") end
    local attributes = {}
    for _, name in lua.ipairs(OF_COOKIE) do attributes[name] = found[name] end
    found.attributes, found.tails = attributes, {}
    -- Before anything depends on it.
    cookie_line("start", found.name, "", attributes)
    return found
end

-- What was given last, and what it means: most scripts give the same for each request.
local NONE = {}
local given, given_number, meant = nil, 0, nil

local function is_given(options)
    local found = 0
    for name, value in next, options do
        if given[name] ~= value then return false end
        found = found + 1
    end
    return found == given_number
end

local function meaning(options)
    if options == nil then options = NONE end
    if type(options) ~= "table" then blame("bad argument #3 to 'start' (table expected, got %s)", type(options)) end
    if meant and is_given(options) then return meant end
    local found, copy = checked(options), {}
    local n = 0
    for name, value in next, options do
        copy[name] = value
        n = n + 1
    end
    given, given_number, meant = copy, n, found
    return found
end

-- Stores, by what they are.
local stores = {}

local function store_of(options)
    if options.store == "cookie" then return nil end
    local what = options.store == "shared" and (options.dictionary or "sessions") or options.url
    local key = options.store .. " " .. what
    local found, problem = stores[key], nil
    if not found then
        found, problem = server.opening("session_stores")[options.store](what)
        stores[key] = found
    end
    return found, problem
end

-- What is behind each session that a script has. The hook of its request keeps it, so that it goes with the request: in 5.1
-- and LuaJIT a value that leads to its key would keep both for ever.
local behind = setmetatable({}, { __mode = "kv" })
local meta

local function must(value, problem)
    if value == nil and problem then blame("session: %s", problem) end
    return value
end

-- Loading

-- The table of a text that was kept, when it was begun and last seen; nil where it is over, or none.
local function unpacked(text, options, now)
    local created, seen, at = match(text, "^(%d+) (%d+) ()")
    if not at or #created > 15 or #seen > 15 then return nil end
    local payload = sub(text, at)
    local values = decode(payload)
    if type(values) ~= "table" or type(values.d) ~= "table" then return nil end
    created, seen = tonumber(created), tonumber(seen)
    if now > seen + options.idle or now > created + options.absolute then return nil end
    return values, payload, created, seen
end

-- Returns true; or nil and what has failed.
local function load(own, sent)
    local options, text = own.options, nil
    if own.store then
        if not sent or not find(sent, "^[%w_-]+$") or #sent ~= 43 then return true end
        local problem
        text, problem = own.store.get(functions.hashed(sent))
        if problem then return nil, problem end
    elseif sent then
        text = must(functions.unseal(options.key_file, options.name, sent))
    end
    if not text then return true end
    local values, payload, created, seen = unpacked(text, options, own.started)
    if not values then return true end
    own.is_new, own.payload, own.created, own.seen, own.loaded = false, payload, created, seen, values
    own.csrf = type(values.c) == "string" and values.c or nil
    own.flash = type(values.f) == "table" and values.f or {}
    if own.store then own.id, own.is_kept = sent, true end
    for name, value in next, values.d do rawset(own.session, name, value) end
    return true
end

-- Saving

local function is_current(own) return server.response_access.is_watched(own.hook) end

-- A header line in place of the one that was set before. Returns false where the headers have been sent.
local function put_line(key, text)
    local lines, places, is_sent = server.response_access.head()
    if is_sent then return false end
    local place = places[key] or #lines + 1
    places[key], lines[place] = place, text .. "\r\n"
    return true
end

local function put_cookie(own, value, attributes)
    local options = own.options
    local text
    if attributes == options.attributes then
        -- What is behind the value is the same each time, but for whether the client has come by HTTPS.
        local tails, secure = options.tails, attributes.secure == nil and functions.is_https() or 0
        local tail = tails[secure]
        if not tail then
            tail = sub(cookie_line("start", options.name, "", attributes), #options.name + 2)
            tails[secure] = tail
        end
        text = options.name .. "=" .. value .. tail
    else
        text = cookie_line("start", options.name, value, attributes)
    end
    return put_line("session " .. options.name, "Set-Cookie: " .. text)
end

local function forget(own)
    if not own.dropped then return true end
    local done, problem = own.store.delete(own.dropped)
    if not done then return nil, problem end
    own.dropped = nil
    return true
end

-- The client's cookie goes, where it has one.
local function remove(own)
    if own.has_cookie then
        local attributes = {}
        for name, value in next, own.options.attributes do attributes[name] = value end
        attributes.max_age, attributes.expires = 0, 0
        if not put_cookie(own, "", attributes) then return nil, "the headers have been sent already" end
        own.has_cookie = false
    end
    own.payload = nil
    return true
end

local SENT = "it was changed after the headers had been sent"

local function keep_in_cookie(own, text, has_changed)
    local options = own.options
    local sealed, problem = functions.seal(options.key_file, options.name, text, options.encrypt or false)
    must(sealed, problem)
    if #sealed + #options.name + 1 > 4096 then
        blame("session: found %d bytes, expected at most 4096 in a cookie; keep less in it, or store = \"shared\" or \"sql\"",
            #sealed + #options.name + 1)
    end
    if put_cookie(own, sealed, options.attributes) then
        own.has_cookie = true
    elseif has_changed then
        return nil, SENT
    end
    return true
end

local function keep_in_store(own, text, now)
    local options, store = own.options, own.store
    local seconds = own.created + options.absolute - now
    if seconds > options.idle then seconds = options.idle end
    if seconds < 1 then seconds = 1 end
    if not own.id then
        local id = functions.new_id()
        if not put_cookie(own, id, options.attributes) then return nil, SENT end
        own.id, own.has_cookie = id, true
    elseif options.max_age then
        put_cookie(own, own.id, options.attributes)
    end
    -- One that is gone by now has been destroyed by another request, and stays so.
    local done, problem = store.set(functions.hashed(own.id), text, seconds, own.is_kept)
    if not done then return nil, problem end
    own.is_kept = true
    return forget(own)
end

-- It is as it was loaded, as far as can be said without its text: a table in it may have other fields.
local function is_unchanged(own)
    local loaded, number = own.loaded, 0
    if own.payload == nil or not loaded or own.csrf ~= loaded.c or next(own.flash) ~= nil or loaded.f ~= nil then return false end
    local fields = loaded.d
    for name, value in next, own.session do
        if fields[name] ~= value or type(value) == "table" then return false end
        number = number + 1
    end
    for _ in next, fields do number = number - 1 end
    return number == 0
end

local function save(own)
    if own.started - own.seen < own.options.idle / REFRESH and is_unchanged(own) then return true end
    local fields = {}
    for name, value in next, own.session do fields[name] = value end
    local flash = own.flash
    if next(fields) == nil and next(flash) == nil and not own.csrf and (own.is_new or own.is_dropped) then
        if own.dropped then
            local done, problem = forget(own)
            if not done then return nil, problem end
        end
        return own.is_dropped and remove(own) or true
    end
    local payload = encode({ d = fields, c = own.csrf, f = next(flash) ~= nil and flash or nil })
    local now = floor(functions.now())
    local has_changed = payload ~= own.payload
    if not has_changed and now - own.seen < own.options.idle / REFRESH then return true end
    local text = format("%d %d ", own.created, now) .. payload
    local done, problem
    if own.store then
        done, problem = keep_in_store(own, text, now)
    else
        done, problem = keep_in_cookie(own, text, has_changed)
    end
    if not done then return nil, problem end
    own.payload, own.seen, own.is_new, own.is_dropped, own.loaded = payload, now, false, false, nil
    return true
end

-- Methods

local methods = {}

local function behind_of(session, name)
    if type(session) ~= "table" or lua.metatable_of(session) ~= meta then
        blame("bad self to '%s' (session expected, got %s): write session:%s(...)", name, type(session), name)
    end
    local own = behind[session]
    if not own or not is_current(own) then blame("session:%s: its request has ended", name) end
    return own
end

-- Saves what has changed; done at the end by itself. Returns true, or nil and what has failed.
function methods:save() return save(behind_of(self, "save")) end

-- Changes the id and the tokens: to be called when somebody logs in.
function methods:regenerate()
    local own = behind_of(self, "regenerate")
    if own.store and own.id then own.dropped, own.id, own.is_kept = own.dropped or functions.hashed(own.id), nil, false end
    own.csrf, own.payload = nil, nil
end

-- Nothing of it is left; what is put into it afterwards is another session.
function methods:destroy()
    local own = behind_of(self, "destroy")
    for name in next, self do rawset(self, name, nil) end
    if own.store and own.id then own.dropped, own.id, own.is_kept = own.dropped or functions.hashed(own.id), nil, false end
    own.csrf, own.flash, own.payload, own.is_dropped = nil, {}, nil, true
    own.created = floor(functions.now())
end

-- A token for forms, of which each is another.
function methods:csrf()
    local own = behind_of(self, "csrf")
    own.csrf = own.csrf or functions.new_id()
    return functions.mask(own.csrf)
end

function methods:csrf_field() return '<input type="hidden" name="csrf" value="' .. methods.csrf(self) .. '">' end

-- Raises a client's fault, 403, unless the fields of a form have a token as `csrf`, or the request as X-CSRF-Token. It may be
-- the token itself.
function methods:check(fields)
    local own = behind_of(self, "check")
    local token
    if type(fields) == "string" then
        token = fields
    elseif type(fields) == "table" then
        token = fields.csrf
    elseif fields ~= nil then
        blame("bad argument #1 to 'check' (table or string expected, got %s)", type(fields))
    end
    if token == nil then token = functions.variable("HTTP_X_CSRF_TOKEN") end
    if type(token) ~= "string" or not own.csrf or functions.is_token(token, own.csrf) ~= 1 then
        server.bad_requests.refuse(403, "The form has expired, or was sent from another site. Load the page again.")
    end
    return true
end

-- With a value: keeps it until it is read; without: what was kept, and it is no more.
function methods:flash(name, ...)
    local own = behind_of(self, "flash")
    if type(name) ~= "string" then blame("bad argument #1 to 'flash' (string expected, got %s)", type(name)) end
    if lua.select("#", ...) > 0 then
        own.flash[name] = (...)
        return nil
    end
    local value = own.flash[name]
    own.flash[name] = nil
    return value
end

-- Seconds since 1970 when it was begun; whether it is one that was not there before this request.
function methods:created() return behind_of(self, "created").created end
function methods:is_new() return behind_of(self, "is_new").is_new end

meta = {
    __index = methods,
    __newindex = function(session, name, value)
        if methods[name] then blame("'%s' is a method of sessions, and cannot be a field", tostring(name)) end
        if type(name) == "table" or type(name) == "function" then
            blame("a %s cannot be the name of a field of sessions", type(name))
        end
        rawset(session, name, value)
    end,
    __metatable = false,
    __tostring = function() return "session" end,
}

-- Sessions of a request, by con and their names.
local started = setmetatable({}, { __mode = "k" })

-- The session of a client: a table whose fields are there again at its next request. Nil and what has failed where the store
-- is not to be had. A cookie that is none of ours, or is over, is a new session.
local function start(env, con, options)
    if type(env) ~= "table" then blame("bad argument #1 to 'start' (table expected, got %s)", type(env)) end
    if type(con) ~= "table" then blame("bad argument #2 to 'start' (con expected, got %s)", type(con)) end
    options = meaning(options)
    server.check(con, "session")
    local known = started[con]
    if not known then
        known = {}
        started[con] = known
    end
    if known[options.name] then return known[options.name] end
    local store, problem = store_of(options)
    if problem then return nil, problem end
    local session = setmetatable({}, meta)
    local own = {
        session = session, options = options, store = store, is_new = true, started = functions.now(), flash = {},
    }
    own.created = floor(own.started)
    own.seen = own.created
    local sent = cookies.get(env, options.name)
    own.has_cookie = sent ~= nil
    local done
    done, problem = load(own, sent)
    if not done then return nil, problem end

    function own.hook(is_end)
        local _, places = server.response_access.head()
        if not places["cache-control"] then put_line("cache-control", "Cache-Control: private, no-cache") end
        local saved, why = save(own)
        if saved then return end
        if why == SENT and is_end then
            server.call("log", "error", "session: " .. why .. ", and is not kept: session:save() keeps it before con:flush()")
        else
            blame("session: %s", why)
        end
    end

    behind[session] = own
    known[options.name] = session
    server.response_access.watch(own.hook)
    return session
end

return { start = start }
