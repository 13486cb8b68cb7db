-- A page whose HTML lies in a file of its own, views/page.html, within views/layout.html. A saved template shows at once.

local template = require "greenfcgi.template"

function main(env, con)
    local hour = tonumber(os.date("%H"))
    con:header("Content-Type", "text/html; charset=utf-8")
    con:puts(template.render("page", {
        title = con:config("title") or "A page",
        part_of_day = hour < 12 and "morning" or hour < 18 and "afternoon" or "evening",
    }))
end
