-- Output that arrives while the script still runs: con:flush() sends what has been written so far, and
-- con:sleep() lets other requests run meanwhile. (nginx passes it on at once with fastcgi_buffering off.)

function main(env, con)
    con:header("Content-Type", "text/plain; charset=utf-8")
    con:header("X-Accel-Buffering", "no")
    for n = 5, 1, -1 do
        con:puts(n .. " ...\n")
        con:flush()
        con:sleep(0.2)
    end
    con:puts("Lift-off!\n")
end
