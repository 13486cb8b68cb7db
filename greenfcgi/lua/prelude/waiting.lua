-- Functions of the server that may wait: con:sleep, and sending. Compiled when the first of them is called.
--
-- returns: a table: wait(name, ...): calls one of the server's, which returns nil, or text when the client has gone meanwhile.
--          When it has waited for so long that somebody wants to know, it returns a number, and is called again with that
--          sleep: of con

local lua, server = ...

local function wait(name, ...)
    local result = server.ask(name, ...)
    while lua.type(result) == "number" do
        server.call("slow", server.errors.way(2))
        result = server.ask(name, result)
    end
    if result then server.raise_disconnected() end
end

local function sleep(_, seconds)
    if lua.type(seconds) ~= "number" or not (seconds >= 0 and seconds < 1e9) then server.refusals.wrong_seconds(seconds) end
    wait("sleep", seconds)
end

return { wait = wait, sleep = sleep }
