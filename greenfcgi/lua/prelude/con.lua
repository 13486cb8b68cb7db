-- The connection object that a handler gets, as far as the shortest scripts use it: what they write is collected here, and
-- is the body of a response with the headers of the settings. What else there is to a response is in response.lua, what
-- else con can do in services.lua.
--
-- One request at a time runs in a state, so the response under way is held in upvalues. `con` itself is new
-- for each request: one that a script has kept is refused later instead of writing into a stranger's page.
--
-- arguments: lua, server: see boot.lua
-- returns: begin(head_only, is_authorizer): a request begins; returns its con
--          finish(guarded_call): it is over; what is left to do is run by this function of boot.lua. Returns the status, the
--          header block and the body; or what response.lua returns
--          abandon(): it has ended with an error
-- server gets: swap(pieces, number, bytes): takes the pieces that wait, their number, and the bytes of the output that
--          waits, and puts these in their places; without bytes, they stay
--          check(con, name): raises where this is not the con of the request; behind "finish", it is that no more

local lua, server = ...

-- So many pieces are joined into a block: a page of single characters would need 16 times its size in places for them.
local MAX_PIECES <const> = 4096

local settings = server.settings

-- Past this, buffered output leaves in parts, so that a long page is not bounded by the memory of the state. Nothing waits
-- where each piece leaves at once.
local max_buffered = settings.buffering and 1048576 or -1

local nobody = {}
local current = nobody                 -- the con of the request under way
-- The pieces that wait, how many they are, and the bytes of the output that waits: theirs, and of what response.lua has made
-- of pieces before them.
local out, count, size

function server.swap(pieces, number, bytes)
    local a, b, c = out, count, size
    out, count, size = pieces, number, bytes or size
    return a, b, c
end

function server.check(self, name)
    if self ~= current then server.refusals.refuse(self, name) end
    if name == "finish" then current = nobody end
end

-- Methods

local methods = {}

-- Not `...`, which would cost each call a fifth more.
function methods.puts(self, text, second, third, fourth, fifth, sixth, seventh, eighth, ninth)
    if self ~= current then server.check(self, "puts") end
    if second ~= nil or third ~= nil then
        text = server.services.joined(text, second, third, fourth, fifth, sixth, seventh, eighth, ninth)
    end
    if lua.type(text) ~= "string" then
        if lua.type(text) ~= "number" then server.refusals.wrong("puts", 1, "string", text) end
        text = lua.tostring(text)
    end
    local place, bytes = count + 1, size + #text
    out[place] = text
    count, size = place, bytes
    if place == MAX_PIECES or bytes > max_buffered then
        server.response.relieve(bytes > max_buffered)
    end
end

-- The other methods stay when they have been used.
local function look_up(_, name)
    local method
    if name == "header" or name == "status" or name == "flush" or name == "reset" or name == "finish" then
        method = server.response[name]
    elseif name == "gets" or name == "config" or name == "log" then
        method = server.services[name]
    elseif name == "sleep" then
        method = server.waiting.sleep
    else
        method = server.replies[name]
    end
    if method then methods[name] = method end
    return method
end

lua.setmetatable(methods, { __index = look_up, __metatable = false })

-- Finalizers call it while the state is closed, when nothing may be compiled any more.
function print(...)
    local n = lua.select("#", ...)
    local parts = { ... }
    for i = 1, n do parts[i] = lua.tostring(parts[i]) end
    server.call("log", "info", lua.concat(parts, "\t", 1, n))
end

-- The life of a response

local meta = { __index = methods }

local function begin(head_only, is_authorizer)
    -- What is called most is found there, and not by way of the metatable.
    current = lua.setmetatable({ puts = methods.puts }, meta)
    -- With a place for the first piece.
    out, count, size = { "" }, 0, 0
    if head_only or is_authorizer or lua.rawget(server, "response") then
        server.response.begin(head_only, is_authorizer)
    end
    return current
end

local function finish(guarded_call)
    current = nobody
    local response = lua.rawget(server, "response")
    if response then return response.finish_up(guarded_call) end
    -- No finalizer can be called in here: the first of them needs response.lua.
    local text = count == 1 and out[1] or lua.concat(out, "", 1, count)
    out = nil
    return settings.code, settings.head, text
end

local function abandon()
    current, out = nobody, nil
    local response = lua.rawget(server, "response")
    if response then response.abandon() end
end

return begin, finish, abandon
