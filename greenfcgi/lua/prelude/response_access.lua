-- What few parts of the server do with the current response: watch it, look into its header lines, begin it again. Compiled
-- for the first of them, so that response.lua needs only one function for all: access(watcher, bytes). Its arguments are a
-- function that is called before the headers are sent and at the end, with boot.lua's guarded_call; and bytes of the body that
-- have been sent. It returns what `head` does; whether the status is 403 unless one is set; the con whose reply was sent before
-- its script ended; and the watcher.
--
-- returns: a table:
--          watch(f): of this request, f(false) is called before its headers are sent, and f(true) at its end, if its script
--          has not failed
--          is_watched(f): that is so
--          head(): the header lines, each with its line break; where those are that have a name in small letters, or another
--          key; whether they have been sent; whether there is no body
--          count_sent(bytes): so much of the body has left beside what is in response.lua
--          is_answered(con): its reply has been sent before its script has ended
--          renew(con): the response begins anew. Returns false where it has been sent

local lua, server = ...

local response = server.response
local access = response.access

-- Of the request whose response has `watcher`.
local watchers

local function notify(is_end)
    for i = 1, #watchers do watchers[i](is_end) end
end

local function watcher(guarded_call)
    if not guarded_call then return notify(false) end
    local kind, message, trace = guarded_call(notify, true)
    if kind then response.abandon() end
    return kind, message, trace
end

local function is_watching() return lua.select(7, access()) ~= nil end

local M = {}

function M.watch(f)
    if not is_watching() then
        watchers = {}
        access(watcher)
    end
    watchers[#watchers + 1] = f
end

function M.is_watched(f)
    if not is_watching() then return false end
    for i = 1, #watchers do
        if watchers[i] == f then return true end
    end
    return false
end

function M.head() return access() end

function M.count_sent(bytes) access(nil, bytes) end

function M.is_answered(con) return lua.select(6, access()) == con end

function M.renew(con)
    local _, _, is_sent, bodiless, refuses = access()
    if is_sent or M.is_answered(con) then return false end
    response.reset(con)
    response.begin(bodiless, refuses)
    return true
end

return M
