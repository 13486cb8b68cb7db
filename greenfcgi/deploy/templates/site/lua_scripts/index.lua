-- The first page: a form, and what was written with it, from a database.

local form = require "greenfcgi.form"
local session = require "greenfcgi.session"
local template = require "greenfcgi.template"
local notes = require "_lib.notes"

local MAX_TEXT, SHOWN = 500, 20

-- Called once in each Lua state, before its first request.
function init(con) notes.open(con:config("database")) end

local function show(con, s, data, status)
    con:status(status or 200)
    con:header("Content-Type", "text/html; charset=utf-8")
    data.session, data.notes, data.max_text = s, notes.latest(SHOWN), MAX_TEXT
    con:puts(template.render("index", data))
end

local function add(env, con, s)
    local fields = form.read(env, con, { utf8 = true })
    -- The form was one of ours, and no other site's: 403 otherwise.
    s:check(fields)
    local text = form.first(fields.text) or ""
    if not text:find("%S") then return show(con, s, { text = text, problem = "Write something first." }, 422) end
    if #text > MAX_TEXT then return show(con, s, { text = text, problem = "That is too long." }, 422) end
    notes.add(text)
    s:flash("notice", "Saved.")
    -- 303: the browser gets the page by a GET of its own, so that a reload does not send the form twice.
    con:redirect("/", 303)
end

function main(env, con)
    local s = assert(session.start(env, con))
    if env.REQUEST_METHOD == "POST" then return add(env, con, s) end
    show(con, s, { text = "", notice = s:flash("notice") })
end
