-- A page whose HTML lies in a file of its own, views/page.html.

local html = require "_lib.html"
local template = require "_lib.template"

function main(env, con)
    local hour = tonumber(os.date("%H"))
    -- Read for each request, so that a saved template shows at once. To compile it only once in a state,
    -- move this line out of main.
    local view = template.read("views/page.html")

    con:header("Content-Type", "text/html; charset=utf-8")
    con:puts(html.page(con:config("title") or "A page", view {
        title = "a page with a template",
        part_of_day = hour < 12 and "morning" or hour < 18 and "afternoon" or "evening",
    }))
end
