-- A small JSON writer: require "_lib.json". Tables with [1] are arrays, all others objects.

local json = {}

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function quote(text)
    return '"' .. text:gsub('[%c"\\]', function(c)
        return escapes[c] or ("\\u%04x"):format(c:byte())
    end) .. '"'
end

function json.encode(value)
    local kind = type(value)
    if kind == "table" then
        local parts = {}
        if value[1] ~= nil or next(value) == nil then
            for i, item in ipairs(value) do parts[i] = json.encode(item) end
            return "[" .. table.concat(parts, ",") .. "]"
        end
        for name, item in pairs(value) do
            parts[#parts + 1] = quote(tostring(name)) .. ":" .. json.encode(item)
        end
        table.sort(parts)
        return "{" .. table.concat(parts, ",") .. "}"
    elseif kind == "string" then
        return quote(value)
    elseif kind == "number" and (value ~= value or value == math.huge or value == -math.huge) then
        return "null"
    elseif kind == "number" or kind == "boolean" then
        return tostring(value)
    end
    return "null"
end

return json
