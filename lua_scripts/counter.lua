-- What is global stays from one request to the next, in this Lua state. Busy scripts have several states (clones),
-- each with globals of its own: for what all requests must share, use a database or Redis. Its page is views/counter.html.

local template = require "greenfcgi.template"

-- init runs once in each new state, before its first request.
function init()
    count = 0
    began = os.time()
end

function main(env, con)
    count = count + 1
    con:header("Content-Type", "text/html; charset=utf-8")
    con:header("Cache-Control", "no-store")
    con:puts(template.render("counter"))
end
