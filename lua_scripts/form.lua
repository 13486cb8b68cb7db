-- A form: what comes in by GET or POST is parsed, and shown again, escaped.

local fcgi = require "luafcgid"
local html = require "_lib.html"

local form = [[
<form method="post">
<p><label>Your name <input name="name" value="%s" autofocus></label></p>
<p><label><input type="checkbox" name="like" value="coffee"> coffee</label>
<label><input type="checkbox" name="like" value="tea"> tea</label></p>
<p><button>Send</button></p>
</form>
]]

function main(env, con)
    local values = fcgi.parse(env.REQUEST_METHOD == "POST" and con:gets() or env.QUERY_STRING)

    -- A name that comes more than once has a list of its values.
    local like = values.like
    if type(like) == "table" then like = table.concat(like, " and ") end

    local body = form:format(html.escape(values.name or ""))
    if values.name and values.name ~= "" then
        body = body .. ("<p>Hello, <b>%s</b>!%s</p>"):format(
            html.escape(values.name), like and " You like " .. html.escape(like) .. "." or "")
    end

    con:header("Content-Type", "text/html; charset=utf-8")
    con:puts(html.page("A form", body))
end
