-- Everything that the web server says about the request.

local html = require "_lib.html"

function main(env, con)
    local names = {}
    for name in pairs(env) do names[#names + 1] = name end
    table.sort(names)

    local rows = {}
    for i, name in ipairs(names) do
        rows[i] = ("<tr><th>%s</th><td>%s</td></tr>"):format(html.escape(name), html.escape(env[name]))
    end

    con:header("Content-Type", "text/html; charset=utf-8")
    con:puts(html.page("The environment", "<table>" .. table.concat(rows, "\n") .. "</table>"))
end
