-- What the count hook does when the server has answered that the script's time is over, or that it is slow. Compiled when
-- that first happens.
--
-- returns: act(is_late)

local lua, server = ...

local sethook = server.debug.sethook

-- The server's own functions are not interrupted: the script is, when they return, or after so many seconds of CPU time.
local MAX_OWN <const> = 0.05

local function is_own(info)
    local source = info and info.source
    return source == "=greenfcgi" or source == "=?" or source == "@greenfcgi" or source == "=[C]" and info.what ~= "C"
end

return function(is_late)
    if not is_late then
        server.call("slow", (server.errors.way(3)))
        return
    end
    if is_own(lua.getinfo(3, "S")) then
        local now = lua.clock()
        server.late_since = server.late_since or now
        if now - server.late_since < MAX_OWN then
            sethook(server.hook, "", 1)
            return
        end
    end
    server.late_since = false
    -- As usual again: after each instruction, it would also come between the script's end and `stop_hook`, outside any
    -- protected call.
    sethook(server.hook, "", 1000)
    server.raise_timeout()
end
