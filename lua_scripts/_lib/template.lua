-- A template engine in thirty lines: require "_lib.template".
--   <%= expression %>   its value, escaped        <%- expression %>   its value as it is
--   <% statements %>    Lua, such as <% for _, x in ipairs(list) do %> ... <% end %>

local html = require "_lib.html"

local template = {}

-- The Lua source of a template: line by line, so that an error in it has the template's own line.
local function translate(text)
    local code = { "local out, escape = ... " }
    local at = 1
    local function literal(piece)
        if piece ~= "" then code[#code + 1] = ("out[#out + 1] = %q "):format(piece) end
    end
    while true do
        local from, to, sign, inside = text:find("<%%([=-]?)(.-)%%>", at)
        if not from then break end
        literal(text:sub(at, from - 1))
        if sign == "=" then
            code[#code + 1] = ("out[#out + 1] = escape(%s) "):format(inside)
        elseif sign == "-" then
            code[#code + 1] = ("out[#out + 1] = tostring(%s) "):format(inside)
        else
            code[#code + 1] = inside .. " "
        end
        at = to + 1
    end
    literal(text:sub(at))
    return table.concat(code)
end

-- Returns a function that makes the page from a table of values, which the template sees as its globals.
function template.read(name)
    local file = assert(io.open(name))
    local source = translate(file:read("*a"))
    file:close()
    -- "@" says that it is the name of a file.
    local chunk = "@" .. name
    return function(values)
        setmetatable(values, { __index = _G })
        local page
        if setfenv then -- Lua 5.1 and LuaJIT
            page = setfenv(assert(loadstring(source, chunk)), values)
        else
            page = assert(load(source, chunk, "t", values))
        end
        local out = {}
        page(out, html.escape)
        return table.concat(out)
    end
end

return template
