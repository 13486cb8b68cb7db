-- A form: what comes in by GET or POST is parsed, and shown again, escaped. Its page is views/form.html.

local fcgi = require "luafcgid"
local template = require "greenfcgi.template"

function main(env, con)
    local values = fcgi.parse(env.REQUEST_METHOD == "POST" and con:gets() or env.QUERY_STRING)

    -- A name that comes more than once has a list of its values.
    local like = values.like
    if type(like) == "table" then like = table.concat(like, " and ") end

    con:header("Content-Type", "text/html; charset=utf-8")
    con:puts(template.render("form", { name = values.name, like = like }))
end
