-- An upload, read in parts: however large it is, only 64 KiB of it are in the Lua state at a time.
-- The web server and scripts.max_post limit its size. Try: curl --data-binary @somefile http://localhost/upload.lua

function main(env, con)
    con:header("Content-Type", "text/plain")
    if env.REQUEST_METHOD ~= "POST" and env.REQUEST_METHOD ~= "PUT" then
        con:status(405)
        con:header("Allow", "POST, PUT")
        con:puts("Send me a file: curl --data-binary @somefile http://localhost/upload.lua\n")
        return
    end

    local bytes, lines, parts = 0, 0, 0
    while true do
        local part, problem = con:gets(65536)
        if problem then con:log("warning", problem) end
        if not part then break end
        bytes = bytes + #part
        parts = parts + 1
        for _ in part:gmatch("\n") do lines = lines + 1 end
    end
    con:puts(("%d bytes, %d lines, read in %d parts\n"):format(bytes, lines, parts))
end
