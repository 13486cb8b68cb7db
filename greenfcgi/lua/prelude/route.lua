-- The values of certain variables in a PARAMS stream, found by walking its pairs: where a request goes, how long its
-- body is, what the access log wants. The same as records.router in Python, at a sixth of its cost. Runs in a state of
-- its own, without any script.
--
-- takes: the names, and by their places what joins their values (records.separator); for a records.Template also its
--   texts, the places of its variables, the longest value, and the place of that which is needed, or nil
-- returns: the function of the stream that returns their values (nil where there is none), or what Template says; or
--   false when a pair is cut off

local byte, concat, find, gsub, sub = string.byte, table.concat, string.find, string.gsub, string.sub
local unpack = unpack or table.unpack

local names, separators, texts, slots, max_value, needed = ...
local count = #names
-- Most names are passed over by their length and their last byte alone: only others are made a string. Lengths of one
-- byte are in the array part of their table, which saves 30 ns for each request.
local places, endings = {}, {}
for length = 0, 127 do endings[length] = false end
for place, name in ipairs(names) do
    places[name] = place
    local codes = endings[#name] or {}
    endings[#name] = codes
    for code = 0, 255 do codes[code] = codes[code] or name == "" or code == byte(name, -1) end
end
-- Filled once, so that it is an array from then on: to add keys to a table costs more than the whole walk.
local found = {}
for place = 1, count do found[place] = "" end

-- Fills `found`; false when a pair is cut off.
local function walk(data)
    local at, last = 1, #data
    for place = 1, count do found[place] = nil end
    while at <= last do
        local name_length, value_length = byte(data, at, at + 1)
        if not value_length then return false end
        at = at + 2
        if name_length > 127 or value_length > 127 then
            local a, b, c
            if name_length > 127 then
                a, b, c, value_length = byte(data, at - 1, at + 2)
                if not value_length then return false end
                name_length = (((name_length - 128) * 256 + a) * 256 + b) * 256 + c
                at = at + 3
            end
            if value_length > 127 then
                a, b, c = byte(data, at, at + 2)
                if not c then return false end
                value_length = (((value_length - 128) * 256 + a) * 256 + b) * 256 + c
                at = at + 3
            end
        end
        local value = at + name_length
        local after = value + value_length
        local codes = endings[name_length]
        if codes and codes[byte(data, value - 1)] then
            local place = places[sub(data, at, value - 1)]
            if place then
                local text = sub(data, value, after - 1)
                local before, separator = found[place], separators[place]
                if before and separator then text = separator == "" and before or before .. separator .. text end
                found[place] = text
            end
        end
        at = after
    end
    return at == last + 1
end

if not texts then
    return function(data)
        if not walk(data) then return false end
        return unpack(found, 1, count)
    end
end

-- Values as the text of a template has them, or false for those that it cannot have. Many come again and again (methods,
-- protocols, browsers, addresses), so some hundreds are kept, but no long ones.
local MAX_KEPT, MAX_KEPT_LENGTH = 500, 200
local shown, kept

local function forget()
    shown, kept = { [""] = "-" }, 0
end

local function show(value)
    if #value > max_value then return false end
    local text = not find(value, '[%c"\\\127-\255]') and gsub(value, "%%", "%%%%")
    if #value <= MAX_KEPT_LENGTH then
        if kept == MAX_KEPT then forget() end
        shown[value], kept = text, kept + 1
    end
    return text
end

local pieces = {}
for number, text in ipairs(texts) do pieces[2 * number - 1], pieces[2 * number] = text, "" end
pieces[2 * #texts] = nil
local slot_count, has_text = #slots, #texts > 0
forget()

return function(data)
    if not walk(data) then return false end
    local is_plain = has_text and (not needed or (found[needed] or "") ~= "")
    for number = 1, is_plain and slot_count or 0 do
        local value = found[slots[number]] or ""
        local text = shown[value]
        if text == nil then text = show(value) end
        if not text then
            is_plain = false
            break
        end
        pieces[2 * number] = text
    end
    if is_plain then return found[1], found[2], concat(pieces) end
    return found[1], found[2], nil, unpack(found, 3, count)
end
