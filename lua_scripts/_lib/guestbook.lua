-- What the guestbook keeps: users, entries, photos and likes, in one database.

local sql = require "greenfcgi.sql"

local M = {}
local db

local TABLES = {
    "create table if not exists users (id integer primary key, name text not null unique collate nocase, "
        .. "password text not null)",
    -- The id of an entry that was deleted never comes again, and a later one is greater.
    "create table if not exists entries (id integer primary key autoincrement, user integer not null, text text not null, "
        .. "time integer not null)",
    "create table if not exists photos (entry integer primary key, jpeg blob not null, width integer, height integer)",
    "create table if not exists likes (entry integer, user integer, primary key (entry, user)) without rowid",
    "create table if not exists tries (id integer primary key, what text, who text, ends integer)",
}

-- Each Lua state calls this when it begins. `errors = "raise"`: what fails is an error, and a page 500.
function M.open(url)
    M.url = url
    db = assert(sql.connect(url, { errors = "raise" }))
    for _, statement in ipairs(TABLES) do db:execute(statement) end
end

-- Users: {id, name, password}, the last one a hash

function M.user(id)
    return id and db:query("select * from users where id = ?", id)[1]
end

function M.user_named(name)
    return db:query("select * from users where name = ?", name)[1]
end

-- Returns the user's id, or nil where somebody has the name.
function M.add_user(name, hash)
    local added, id = db:execute("insert or ignore into users (name, password) values (?, ?)", name, hash)
    return added == 1 and id or nil
end

-- Whether `who` may do `what` once more: at most so many times in so many seconds, over all states and processes. Returns
-- the try, or false. It is counted before it is made, so that a crowd of them at the same time does not slip through.
function M.try(what, who, max, seconds)
    local now = os.time()
    return db:transaction(function()
        db:execute("delete from tries where ends <= ?", now)
        who = tostring(who or "")
        if db:query("select count(*) as n from tries where what = ? and who = ?", what, who)[1].n >= max then return false end
        local _, id = db:execute("insert into tries (what, who, ends) values (?, ?, ?)", what, who, now + seconds)
        return id
    end)
end

-- It was none to count.
function M.forget(try)
    db:execute("delete from tries where id = ?", try)
end

-- Entries: {id, author, tone, text, time, likes, liked, mine, photo = {width, height}}, as the API gives them

local ENTRIES = [[
    select entries.id, entries.user, text, time, name, width, height,
        (select count(*) from likes where entry = entries.id) as likes,
        exists (select 1 from likes where entry = entries.id and likes.user = :user) as liked
    from entries join users on users.id = entries.user left join photos on photos.entry = entries.id ]]

local function entry_of(row, user)
    return {
        id = row.id, author = row.name, text = row.text, time = os.date("!%Y-%m-%dT%H:%M:%SZ", row.time),
        tone = row.user % 6, likes = row.likes, liked = row.liked == 1, mine = user ~= nil and row.user == user.id,
        photo = row.width ~= sql.NULL and { width = row.width, height = row.height } or nil,
    }
end

-- The newest entries, or those before an id; and the id from which the next page begins, where there is one.
function M.entries(user, before, max)
    local rows = db:query(ENTRIES .. "where entries.id < :before order by entries.id desc limit :max",
        { user = user and user.id or 0, before = before or 2 ^ 53, max = max + 1 })
    local found = {}
    for i = 1, math.min(#rows, max) do found[i] = entry_of(rows[i], user) end
    return found, rows[max + 1] and rows[max].id
end

-- Those that came after an id, the oldest first.
function M.entries_after(id)
    local rows = db:query(ENTRIES .. "where entries.id > :id order by entries.id limit 20", { user = 0, id = id })
    local found = {}
    for i, row in ipairs(rows) do found[i] = entry_of(row) end
    return found
end

function M.last_id()
    return db:query("select coalesce(max(id), 0) as id from entries")[1].id
end

-- `photo` is {jpeg, width, height}, or nil.
function M.add_entry(user, text, photo)
    db:transaction(function()
        local _, id = db:execute("insert into entries (user, text, time) values (?, ?, ?)", user.id, text, os.time())
        if photo then
            db:execute("insert into photos values (?, ?, ?, ?)", id, sql.blob(photo.jpeg), photo.width, photo.height)
        end
    end)
end

-- Whether there was one, of this user.
function M.delete_entry(user, id)
    return db:transaction(function()
        if db:execute("delete from entries where id = ? and user = ?", id, user.id) == 0 then return false end
        db:execute("delete from photos where entry = ?", id)
        db:execute("delete from likes where entry = ?", id)
        return true
    end)
end

function M.photo(id)
    local row = db:query("select jpeg from photos where entry = ?", id)[1]
    return row and row.jpeg
end

-- Returns how many like it now, or nil where there is no such entry.
function M.like(user, id, liked)
    local change = liked and "insert or ignore into likes select id, ? from entries where id = ?"
        or "delete from likes where user = ? and entry = ?"
    db:execute(change, user.id, id)
    local row = db:query("select (select count(*) from likes where entry = id) as likes from entries where id = ?", id)[1]
    return row and row.likes
end

return M
