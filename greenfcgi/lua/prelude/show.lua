-- Values for people: an error object in the log, a variable on a page. Few scripts need it, so it is compiled when the
-- first of them does.
--
-- returns: shown(value): a value as text

local lua = ...

local next, tostring, type, getinfo = lua.next, lua.tostring, lua.type, lua.getinfo
local concat, find, gsub, sub = lua.concat, lua.find, lua.gsub, lua.sub

local MAX_LENGTH, MAX_ITEMS, MAX_DEPTH = 300, 20, 3

-- A value as Lua would write it, shortened; no metamethod is called.
local function shown(value, depth)
    local kind = type(value)
    if kind == "string" then
        local text = gsub(gsub(sub(value, 1, MAX_LENGTH), '[\\"]', "\\%0"), "\n", "\\n")
        return '"' .. text .. (#value > MAX_LENGTH and '..." (' .. #value .. " bytes)" or '"')
    elseif kind == "table" then
        depth = depth or MAX_DEPTH
        if next(value) == nil then return "{}" end
        if depth == 0 then return "{...}" end
        local parts, n = {}, 0
        for key, item in next, value do
            n = n + 1
            if n > MAX_ITEMS then
                parts[n] = "..."
                break
            end
            local name = "[" .. shown(key, 0) .. "] = "
            if key == n then
                name = ""
            elseif type(key) == "string" and find(key, "^[%a_][%w_]*$") then
                name = key .. " = "
            end
            parts[n] = name .. shown(item, depth - 1)
        end
        return "{ " .. concat(parts, ", ") .. " }"
    elseif kind == "function" then
        local info = getinfo(value, "S")
        local is_own = info.what == "C" or info.source == "=greenfcgi" or info.source == "=?" or info.source == "=[C]"
        return is_own and "function (built in)" or "function (" .. info.short_src .. ":" .. info.linedefined .. ")"
    end
    return (kind == "number" or kind == "boolean" or kind == "nil") and tostring(value) or kind
end

return shown
