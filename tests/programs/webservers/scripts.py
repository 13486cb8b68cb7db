"""The scripts and files behind the web servers, as text by their names."""

from __future__ import annotations

SCRIPTS = {
    # Each variable ends in a byte that is in none.
    "env.lua": r"""
        function main(env, con)
            con:header("Content-Type", "text/plain")
            local names = "REQUEST_METHOD SCRIPT_NAME PATH_INFO QUERY_STRING REQUEST_URI CONTENT_LENGTH REMOTE_USER "
                .. "HTTP_X_THING HTTP_COOKIE HTTP_PROXY HTTP_AUTHORIZATION SERVER_PROTOCOL REMOTE_ADDR"
            for name in names:gmatch("%S+") do
                con:puts(name .. "=" .. tostring(env[name]) .. "\030")
            end
        end
    """,
    "form.lua": """
        local fcgi = require "luafcgid"
        function main(env, con)
            local values = fcgi.parse(con:gets())
            con:puts(env.CONTENT_TYPE .. " " .. env.CONTENT_LENGTH .. " " .. values.name .. " " .. values.text)
        end
    """,
    "upload.lua": """
        function main(env, con)
            con:header("Content-Type", "application/octet-stream")
            con:header("X-Length", tostring(env.CONTENT_LENGTH))
            local part = con:gets(65536)
            while part do
                con:puts(part)
                part = con:gets(65536)
            end
        end
    """,
    "began.lua": 'function main(env, con) con:log("began.lua runs") con:puts(#con:gets()) end',
    "many.lua": r"""
        function main(env, con)
            local found = 0
            for name, value in pairs(env) do
                local number = name:match("^HTTP_X_MANY_(%d+)$")
                if number and value == number .. ("x"):rep(1000) then found = found + 1 end
            end
            con:puts(found)
        end
    """,
    "headers.lua": """
        function main(env, con)
            con:status(201)
            con:header("Content-Type", "text/plain; charset=utf-8")
            con:header("Set-Cookie", "a=1; Path=/")
            con:header("Set-Cookie", "b=2; HttpOnly")
            con:header("Cache-Control", "no-store")
            con:header("X-Thing", "one, two")
            con:puts("made")
        end
    """,
    "large_header.lua": """
        function main(env, con)
            for i = 1, 36 do con:header("X-Large-" .. i, ("x"):rep(1000)) end
            con:puts("large")
        end
    """,
    "status.lua": """
        function main(env, con)
            con:status(tonumber(env.QUERY_STRING))
            con:puts("the script's own page")
        end
    """,
    "empty.lua": """
        function main(env, con)
            con:status(tonumber(env.QUERY_STRING))
            con:header("X-Thing", "x")
        end
    """,
    "busy.lua": """
        function main(env, con)
            con:status(503)
            con:header("Retry-After", 7)
            con:puts("busy")
        end
    """,
    "error.lua": 'function main(env, con) error("oh dear") end',
    "moved.lua": 'function main(env, con) con:status(tonumber(env.QUERY_STRING)) con:header("Location", "/x") end',
    "redirect.lua": 'function main(env, con) con:header("Location", "/env.lua?from=redirect") end',
    "late.lua": """
        function main(env, con)
            if env.QUERY_STRING == "length" then con:header("Content-Length", 20000) end
            con:header("X-Accel-Buffering", "no")
            con:puts(("x"):rep(5000))
            con:flush()
            con:sleep(0.1)
            error("late")
        end
    """,
    "short.lua": """
        function main(env, con)
            con:header("Content-Length", 20000)
            con:puts(("x"):rep(5000))
            con:flush()
        end
    """,
    "large.lua": """
        function main(env, con)
            con:header("Content-Type", "application/octet-stream")
            local all = {}
            for byte = 0, 255 do all[#all + 1] = string.char(byte) end
            local block = table.concat(all):rep(16)
            for _ = 1, 256 do con:puts(block) end
        end
    """,
    "stream.lua": """
        function main(env, con)
            con:header("Content-Type", "text/plain")
            if env.QUERY_STRING == "unbuffered" then con:header("X-Accel-Buffering", "no") end
            con:puts("first\\n")
            con:flush()
            while true do
                local go = io.open("go")
                if go then go:close() break end
                con:sleep(0.01)
            end
            con:puts("second\\n")
        end
    """,
    "endless.lua": """
        function main(env, con)
            con:header("X-Accel-Buffering", "no")
            while true do
                con:puts(("x"):rep(1000))
                con:flush()
                con:sleep(0.01)
            end
        end
    """,
    "sleep.lua": "function main(env, con) con:sleep(0.8) end",
    "file.lua": """
        function main(env, con)
            local way = env.QUERY_STRING
            local options = { type = "text/plain", max_age = 60 }
            if way == "accel" then options.accel = "/_files/kept/report.txt" end
            if way == "sendfile" then options.sendfile = true end
            if not con:file("kept/report.txt", options) then con:status(404) end
        end
    """,
    "news.lua": """
        local http_date = require "greenfcgi.http_date"
        function main(env, con)
            if http_date.not_modified(env, con, { etag = "v7", modified = 784111777 }) then return end
            con:puts("news")
        end
    """,
    "index.lua": 'function main(env, con) con:puts("the first page") end',
    "admin/index.lua": 'function main(env, con) con:puts("admin ", env.SCRIPT_NAME, " ", env.PATH_INFO) end',
    "public/style.css": "body { color: #234 }",
    "public/sub/index.html": "an index",
    "public/empty/x.txt": "text",
    "public/.well-known/acme-challenge/x": "a token",
    "kept/report.txt": "".join(f"line {number:04}\n" for number in range(1000)),
}

#: What no visitor ever sees: each of these files has this in it, the scripts among them as what they would answer.
SECRET = "nobody's business"
_PRIVATE_SCRIPT = f'function main(env, con) con:puts("{SECRET}") end'
PRIVATE = {
    "guestbook.db": SECRET,
    ".env": SECRET,
    ".git/config": SECRET,
    "env.lua~": SECRET,
    "env.lua.bak": SECRET,
    "views/x.html": SECRET,
    "views.lua/x.html": SECRET,
    "_lib/x.lua": _PRIVATE_SCRIPT,
    "_lib/index.lua": _PRIVATE_SCRIPT,
    "_x.lua": _PRIVATE_SCRIPT,
    ".lib/x.lua": _PRIVATE_SCRIPT,
    ".x.lua": _PRIVATE_SCRIPT,
    "public/.env": SECRET,
    "public/.git/config": SECRET,
    "public/sub/.env": SECRET,
    "public/x.lua": _PRIVATE_SCRIPT,
    "public/sub/x.lua": _PRIVATE_SCRIPT,
    "public/other.lua": SECRET,
}

#: An application with a front script, and a second ending of scripts.
FRONT_SCRIPTS = {
    "app.lua": 'function main(env, con) con:puts("front [", env.SCRIPT_NAME, "] [", env.PATH_INFO, "]") end',
    "page.lua": 'function main(env, con) con:puts("page [", env.SCRIPT_NAME, "] [", env.PATH_INFO or "", "]") end',
    "other.lp": 'function main(env, con) con:puts("other [", env.SCRIPT_NAME, "] [", env.PATH_INFO or "", "]") end',
    "admin/index.lua": 'function main(env, con) con:puts("admin [", env.SCRIPT_NAME, "] [", env.PATH_INFO, "]") end',
    "static files/style.css": "body { color: #234 }",
    "static files/sub/index.html": "an index",
    "guestbook.db": SECRET,
}
