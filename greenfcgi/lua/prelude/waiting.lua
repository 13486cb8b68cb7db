-- Functions of the server that may wait: con:sleep, sending, and those of modules. Compiled when the first of them is called.
--
-- returns: a table: wait(name, ...): calls one of the server's, which returns nil, or text when the client has gone meanwhile.
--          When it is time for the slow log, it returns a number, and is called again with that
--          sleep: of con
--          waits(f): what calls f, a function of a module, which returns three values: again while the first is a number

local lua, server = ...

local GONE <const> = "the client has gone"

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

local function waits(f)
    return function(...)
        local result, problem, number = f(...)
        while lua.type(result) == "number" do
            server.call("slow", server.errors.way(2))
            result, problem, number = f(...)
        end
        if problem == GONE then server.raise_disconnected() end
        return result, problem, number
    end
end

return { wait = wait, sleep = sleep, waits = waits }
