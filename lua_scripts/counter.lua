-- What is global stays from one request to the next, in this Lua state. Busy scripts have several states (clones),
-- each with globals of its own: for what all requests must share, use a database or Redis.

local html = require "_lib.html"

-- init runs once in each new state, before its first request.
function init()
    count = 0
    began = os.time()
end

function main(env, con)
    count = count + 1
    con:header("Content-Type", "text/html; charset=utf-8")
    con:header("Cache-Control", "no-store")
    con:puts(html.page("A counter", ([[
<p>This Lua state was made at %s, and has served <b>%d</b> request%s since.</p>
<p>It holds %.0f KB. Reload the page, and watch it count; save this file, and it begins anew.</p>
]]):format(os.date("%H:%M:%S", began), count, count == 1 and "" or "s", collectgarbage("count"))))
end
