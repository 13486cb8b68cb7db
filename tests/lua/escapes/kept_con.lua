-- The con of an earlier request, and its methods, used to write into another one's page.
function main(env, con)
    if not kept then kept, puts, status = con, con.puts, con.status end
    if kept == con then con:puts("held") return end
    local found = {}
    for name, method in pairs(getmetatable(con).__index) do
        if name ~= "log" and name ~= "config" and name ~= "sleep" and pcall(method, kept, 200) then found[#found + 1] = name end
        if name ~= "log" and name ~= "config" and name ~= "sleep" and pcall(method, {}, 200) then found[#found + 1] = name end
        if name ~= "config" and name ~= "sleep" and pcall(method, nil, 200) then found[#found + 1] = name end
    end
    con:puts(#found == 0 and "held" or table.concat(found, "\n"))
end
