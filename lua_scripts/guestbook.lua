-- A guestbook, as a sample of a whole program: users, entries with photos, likes, and what is new appears by itself.
--
-- What it keeps is in _lib/guestbook.lua, its pages are in views/guestbook/, its style and script in public/. Photos need
-- two packages (pip install pillow 'greenfcgi[forms]') and two lines in config.toml; all else works without.
--
--     [modules]
--     thumbnails = "lua_scripts._lib.thumbnails"

local book = require "_lib.guestbook"
local crypto = require "greenfcgi.crypto"
local form = require "greenfcgi.form"
local http_date = require "greenfcgi.http_date"
local json = require "greenfcgi.json"
local router = require "greenfcgi.router"
local session = require "greenfcgi.session"
local template = require "greenfcgi.template"
local has_thumbnails, thumbnails = pcall(require, "thumbnails")

local MAX_TEXT, MAX_NAME, MIN_PASSWORD, PAGE = 1000, 30, 8, 10
local FORM = { utf8 = true, max_fields = 10, max_field_size = 8192, max_files = 1, max_file_size = 2 ^ 24 }
-- Nothing that somebody writes into the guestbook can run in a browser: scripts and styles come from files of ours alone.
local POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    .. "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

local r = router.new()

function init(con) book.open(con:config("guestbook") or "sqlite:guestbook.db") end

function main(env, con)
    con:header("Content-Security-Policy", POLICY)
    con:header("X-Content-Type-Options", "nosniff")
    con:header("Referrer-Policy", "same-origin")
    r:run(env, con)
end

-- Sessions are in the same database, so that whoever has logged out is out, whatever cookies have been copied.
local function visitor(env, con)
    local s = assert(session.start(env, con, { store = "sql", url = book.url, name = "guestbook" }))
    return { session = s, user = book.user(s.user) }
end

local function show(env, con, me, name, data, status)
    con:status(status or 200)
    con:header("Content-Type", "text/html; charset=utf-8")
    data.base, data.me, data.user, data.notice = env.SCRIPT_NAME, me, me.user, me.session:flash("notice")
    con:puts(template.render("guestbook/" .. name, data))
end

-- The browser loads another page after a form (303), so that reloading it sends nothing again.
local function go(env, con, me, path, notice)
    if notice then me.session:flash("notice", notice) end
    con:redirect(env.SCRIPT_NAME .. path, 303)
end

-- Calls what reads the request. What a client has done wrong is raised, as a value with a status and a message: it is
-- returned here, to become a page. Other errors go on their way.
local function attempt(f, ...)
    local ok, value, more = pcall(f, ...)
    if ok then return value, more end
    if type(value) == "table" and value.status then return nil, value end
    error(value, 0)
end

-- The function of a route that takes a form. Whatever changes something needs the session's token, which no other site has.
local function posted(handler)
    return function(env, con, params)
        local me = visitor(env, con)
        local fields, files = attempt(function()
            local fields, files = form.read(env, con, FORM)
            me.session:check(assert(fields, files))
            return fields, files
        end)
        if not fields then return show(env, con, me, "message", { text = files.message }, files.status) end
        handler(env, con, me, fields, files, params)
    end
end

-- The same for those who have logged in.
local function posted_by_user(handler)
    return posted(function(env, con, me, ...)
        if not me.user then return go(env, con, me, "/login", "Please log in first.") end
        handler(env, con, me, ...)
    end)
end

r:not_found(function(env, con)
    show(env, con, visitor(env, con), "message", { text = "There is no such page." }, 404)
end)

-- Who is who

local function form_of(name)
    return function(env, con)
        local me = visitor(env, con)
        if me.user then return go(env, con, me, "/") end
        show(env, con, me, name, { name = "" })
    end
end

local function welcome(env, con, me, id, name)
    me.session:regenerate()
    me.session.user = id
    go(env, con, me, "/", "Welcome, " .. name .. ".")
end

r:get("/login", form_of "login")
r:get("/register", form_of "register")

r:post("/login", posted(function(env, con, me, fields)
    local name, password = form.first(fields.name) or "", form.first(fields.password) or ""
    local try = book.try("login", env.REMOTE_ADDR, 10, 600)
    if not try then
        return show(env, con, me, "login", { name = name, problem = "Too many attempts. Try again in ten minutes." }, 429)
    end
    -- A name that nobody has takes as long, and gets the same answer.
    local user = book.user_named(name)
    if not crypto.verify_password(password, user and user.password) then
        return show(env, con, me, "login", { name = name, problem = "That is not the name and the password of a user." }, 403)
    end
    book.forget(try)
    welcome(env, con, me, user.id, user.name)
end))

r:post("/register", posted(function(env, con, me, fields)
    local name, password = form.first(fields.name) or "", form.first(fields.password) or ""
    local problem, status, id
    if not name:find("^[%w_.-]+$") or #name < 2 or #name > MAX_NAME then
        problem = "A name has 2 to " .. MAX_NAME .. " letters, digits, dots, dashes or underscores."
    elseif #password < MIN_PASSWORD or #password > 200 then
        problem = "A password has at least " .. MIN_PASSWORD .. " characters."
    elseif not book.try("register", env.REMOTE_ADDR, 5, 3600) then
        problem, status = "Too many users from here. Try again in an hour.", 429
    else
        id = book.add_user(name, crypto.hash_password(password))
        if not id then problem, status = "Somebody has this name already.", 409 end
    end
    if problem then return show(env, con, me, "register", { name = name, problem = problem }, status or 400) end
    welcome(env, con, me, id, name)
end))

r:post("/logout", posted(function(env, con, me)
    me.session:destroy()
    go(env, con, me, "/", "You have logged out.")
end))

-- Entries

-- A text as it is kept: ends of lines are line feeds, and there are no other control characters.
local function cleaned(text)
    text = text:gsub("\r\n?", "\n"):gsub("[^%C\n]", "")
    return text:match("^%s*(.-)%s*$")
end

local function show_entries(env, con, me, data, status)
    local entries, next_page = book.entries(me.user, tonumber(form.first(form.query(env).before)), PAGE)
    data.entries, data.next_page, data.max_text, data.has_thumbnails = entries, next_page, MAX_TEXT, has_thumbnails
    data.last_id = book.last_id()
    show(env, con, me, "index", data, status)
end

r:get("/", function(env, con) show_entries(env, con, visitor(env, con), {}) end)

r:post("/entries", posted_by_user(function(env, con, me, fields, files)
    local text, photo = cleaned(form.first(fields.text) or ""), nil
    local length, problem, status = select(2, text:gsub("[^\128-\191]", "")), nil, 400     -- in characters, not in bytes
    if length == 0 or length > MAX_TEXT then
        problem = "An entry has 1 to " .. MAX_TEXT .. " characters; this one has " .. length .. "."
    elseif not book.try("entry", me.user.id, 20, 600) then
        problem, status = "Twenty entries in ten minutes are enough. Come back later.", 429
    elseif has_thumbnails and files.photo then
        photo, problem = thumbnails.make(files.photo.path)
    end
    if problem then return show_entries(env, con, me, { text = text, problem = problem }, status) end
    book.add_entry(me.user, text, photo)
    go(env, con, me, "/", "Thank you for your entry.")
end))

r:post("/entries/:id(%d+)/delete", posted_by_user(function(env, con, me, _, _, params)
    if book.delete_entry(me.user, tonumber(params.id)) then return go(env, con, me, "/", "The entry is gone.") end
    show(env, con, me, "message", { text = "You have no such entry." }, 404)
end))

-- How it is without JavaScript; with it, guestbook.js asks the API below.
r:post("/entries/:id(%d+)/like", posted_by_user(function(env, con, me, fields, _, params)
    book.like(me.user, tonumber(params.id), form.first(fields.liked) ~= "no")
    go(env, con, me, "/?before=" .. tonumber(params.id) + 1)
end))

r:get("/photos/:id(%d+)", function(env, con, params)
    local jpeg = book.photo(tonumber(params.id))
    if not jpeg then return con:status(404) end
    con:header("Cache-Control", "no-cache")     -- the browser asks each time, and gets a 304
    if http_date.not_modified(env, con, { etag = crypto.sha256(jpeg):sub(1, 16) }) then return end
    con:header("Content-Type", "image/jpeg")
    con:puts(jpeg)
end)

-- The API, for programs and for guestbook.js

r:get("/api/entries", function(env, con)
    local query, me = form.query(env), visitor(env, con)
    local entries, next_page = book.entries(me.user, tonumber(form.first(query.before)), PAGE)
    con:json({ entries = json.array(entries), next = next_page or json.null })
end)

r:post("/api/entries/:id(%d+)/like", function(env, con, params)
    local me, id = visitor(env, con), tonumber(params.id)
    local value, problem = attempt(function()
        me.session:check()      -- the header X-CSRF-Token
        return json.read(con, { limit = 1000 })
    end)
    if problem then return con:json({ error = problem.message }, problem.status) end
    if not me.user then return con:json({ error = "log in first" }, 401) end
    if type(value) ~= "table" or type(value.liked) ~= "boolean" then
        return con:json({ error = 'expected {"liked": true} or false' }, 400)
    end
    local likes = book.like(me.user, id, value.liked)
    if not likes then return con:json({ error = "there is no such entry" }, 404) end
    con:json({ likes = likes, liked = value.liked })
end)

-- New entries as server-sent events, for 20 seconds; then the browser comes back by itself, and says what it has seen. Each
-- page that listens holds a Lua state and a worker meanwhile: give nginx a limit_conn where strangers come.
r:get("/live", function(env, con)
    local last = tonumber(env.HTTP_LAST_EVENT_ID) or tonumber(form.first(form.query(env).after)) or book.last_id()
    con:header("Content-Type", "text/event-stream")
    con:header("Cache-Control", "no-store")
    con:header("X-Accel-Buffering", "no")       -- nginx passes on at once what is flushed
    con:puts("retry: 1000\n\n")
    for _ = 1, 20 do
        for _, entry in ipairs(book.entries_after(last)) do
            con:puts("id: ", entry.id, "\ndata: ", json.encode(entry), "\n\n")
            last = entry.id
        end
        con:flush()
        con:sleep(1)
    end
end)
