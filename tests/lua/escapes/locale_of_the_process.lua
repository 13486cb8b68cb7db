-- The locale, which belongs to the process: to change it changes how everybody's numbers and letters are read.
function main(env, con)
    local found = {}
    for _, locale in ipairs { "C.UTF-8", "C.utf8", "POSIX", "en_US.UTF-8", "de_DE.UTF-8", "" } do
        for _, category in ipairs { "all", "collate", "ctype", "monetary", "numeric", "time" } do
            local answer = os.setlocale(locale, category)
            if answer and answer ~= "C" then found[#found + 1] = answer end
        end
    end
    con:puts(#found == 0 and os.setlocale() == "C" and os.setlocale(nil, "all") == "C" and "held" or table.concat(found, "\n"))
end
