-- The value of a parameter that has come again. Web servers send one for each header of the client's; of any other name
-- the last one counts, so that a configuration can replace what a file that it includes has set.
--
-- returns: repeated(name, before, value): the value that the script gets

local lua = ...

-- Headers that make no list: of several, the first counts (RFC 9110, section 5.3).
local FIRST = " AGE AUTHORIZATION CONTENT_LENGTH CONTENT_TYPE DATE FROM HOST IF_MODIFIED_SINCE IF_RANGE IF_UNMODIFIED_SINCE "
    .. "MAX_FORWARDS PROXY_AUTHORIZATION RANGE REFERER USER_AGENT "

return function(name, before, value)
    if lua.sub(name, 1, 5) ~= "HTTP_" then return value end
    if lua.find(FIRST, " " .. lua.sub(name, 6) .. " ", 1, true) then return before end
    return before .. (name == "HTTP_COOKIE" and "; " or ", ") .. value
end
