-- What is said of a call of a function that is nil because lua.allow does not open it. Compiled when an error that a script
-- has not caught is about a nil value.
--
-- returns: a function: the message, with the name that lua.allow would have

local lua, server = ...

local CLOSED = {
    debug = "debug", getlocal = "debug", setlocal = "debug", getregistry = "debug", sethook = "debug",
    getuservalue = "debug", setuservalue = "debug", loadlib = "package.loadlib",
}

return function(message)
    local name = lua.match(message, "attempt to call %a+ '([%a_]+)' %(a nil value%)$")
        or lua.match(message, "attempt to call a nil value %(%a+ '([%a_]+)'%)$")
    local opened = name and CLOSED[name]
    if not opened or server.allowed[opened] then return message end
    return message .. ': lua.allow does not have "' .. opened .. '"'
end
