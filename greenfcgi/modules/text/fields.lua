-- Fields of query strings and forms, and percent escapes, as greenfcgi.url, .form, .cookie and .lapis read them. (luafcgid has
-- its own: with this part, each state of a script that requires it would be 1 KB larger.)
--
-- returns: a table: unescape(text): with its percent escapes decoded; what is no "%XX" stays
--          decode(text): the same, with a space for each "+"
--          add(fields, name, value): a name that comes twice has a list of its values

local lua, server = ...

local count = server.count
local char, find, gsub, tonumber = lua.char, lua.find, lua.gsub, lua.tonumber

local function from_hex(digits)
    count(1)
    return char(tonumber(digits, 16))
end

local function unescape(text) return find(text, "%", 1, true) and gsub(text, "%%(%x%x)", from_hex) or text end

local function decode(text)
    if find(text, "+", 1, true) then text = gsub(text, "+", " ") end
    return unescape(text)
end

local function add(fields, name, value)
    local known = fields[name]
    if known == nil then
        fields[name] = value
    elseif lua.type(known) == "table" then
        known[#known + 1] = value
    else
        fields[name] = { known, value }
    end
end

return { unescape = unescape, decode = decode, add = add }
