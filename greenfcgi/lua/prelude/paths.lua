-- Names of files: relative ones are found beside the script, although the process never changes its directory.
--
-- returns: absolute(name)

local lua, server = ...

local byte, find, match, sub = lua.byte, lua.find, lua.match, lua.sub
local directory = server.settings.directory

local SLASH <const> = 47

return function(name)
    name = name .. ""
    -- C's strings end at a zero byte.
    local zero = find(name, "\0", 1, true)
    if zero then name = sub(name, 1, zero - 1) end
    -- No name is that of the folder, and what leads to it keeps a dot at its end: neither can be renamed or removed.
    if name == "" or byte(name) == SLASH then return name end
    while true do
        local rest = match(name, "^%./+([^/].*)$")
        if not rest then return directory .. "/" .. name end
        name = rest
    end
end
